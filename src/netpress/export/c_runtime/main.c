/* Reads inputs from stdin until it ends and prints one line of outputs for each: `demo` takes float32 in this machine's byte
 * order, channels first and preprocessed; `demo bytes` takes stored images of bytes, channels last. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "netpress_model.h"

static float input[NETPRESS_INPUTS];
static uint8_t pixels[NETPRESS_INPUTS];
static float output[NETPRESS_OUTPUTS];

int main(int count, char **words) {
    const int bytes = count > 1 && strcmp(words[1], "bytes") == 0;
    if (count > 2 || (count == 2 && !bytes)) {
        fprintf(stderr, "usage: %s [bytes] < inputs\n", words[0]);
        return 2;
    }
    for (;;) {
        const size_t read = bytes ? fread(pixels, 1, sizeof pixels, stdin) : fread(input, 1, sizeof input, stdin);
        if (read == 0) return 0;
        if (read != (bytes ? sizeof pixels : sizeof input)) {
            fprintf(stderr, "the last input is cut short: %zu bytes\n", read);
            return 1;
        }
        if (bytes) netpress_run_bytes(pixels, output);
        else netpress_run(input, output);
        for (int i = 0; i < NETPRESS_OUTPUTS; i++) printf(i ? " %.9g" : "%.9g", (double)output[i]);
        printf("\n");
    }
}
