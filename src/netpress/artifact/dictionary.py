"""Text that structures are likely to hold: part of format 1, never changed within it.

DEFLATE (RFC 1951) copies what it has seen before; a reader and a writer who have both seen this text first need not store it.
The most frequent pieces stand last, where a copy's distance takes the fewest bits. Pieces are patterns of common families
(plain chains, VGG, ResNet, MobileNet, attention), not whole networks.
"""

from __future__ import annotations

DICTIONARY = (
    # what the command line stores beside the network
    b',"metadata":{"budget":"params=bytes=","recipe":"prune","recipe":"share","seed":0}}'
    b',"task":"regression","classes":["airplane","automobile","bird","cat","deer","dog","frog","horse","ship","truck"]'
    b',"preprocess":{"scale":1.0,"mean":[],"std":[],"indices":true}'
    b',"preprocess":{"scale":0.00392156862745098,"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}'
    b',"preprocess":{"scale":0.00392156862745098,"mean":[0.4914,0.4822,0.4465],"std":[0.247,0.2435,0.2616]}'
    b',"preprocess":{"scale":0.00392156862745098,"mean":[0.1307],"std":[0.3081]}'
    b',"classes":["0","1","2","3","4","5","6","7","8","9"]'
    # rarer operators
    b'["scaled_dot_product_attention","attn","parameter","buffer",["stack","",["split","",["chunk","",["expand","",["unsqueeze","",'
    b'["cat","",[1,["softmax","",1,-1],["gelu","",1],["sigmoid","",1],["matmul","",["reshape","",1,["N",-1,["permute","",1,[0,2,'
    b'["transpose","",1,1,2],["mean","",1,[2,3]],["LayerNorm","norm1",[["GELU","act"],["SiLU","["Sigmoid","["Tanh","["Hardswish","'
    b'["PReLU","["LeakyReLU","["ELU","["Softmax","["GroupNorm","["ConvTranspose2d","["Conv1d","["BatchNorm1d","["MaxPool1d","'
    b'["AdaptiveMaxPool1d","["Embedding","["AvgPool2d","["Upsample","["relu","",1],["max_pool2d","",1,2],["amax","",1,'
    b'["mul","",[1],[2]],["flatten","",1,1],"in":[3,224,224],"dt":"int64","t":[["'
    # depthwise separable and inverted bottleneck blocks
    b'["Conv2d","features.1.conv.0.0",[32,32,3,1,1,1,32,0]],["BatchNorm2d","features.1.conv.0.1",[32]],["ReLU6","features.1.conv.0.2"],'
    b'["Conv2d","features.2.conv.2",[96,24,1,1,0,1,1,0]],["Dropout","classifier.0",[0.2]],["Dropout","classifier.1"],'
    # chains of convolutions
    b'["Conv2d","features.0",[3,64,3,1,1]],["ReLU","features.1"],["Conv2d","features.2",[64,128,3,1,1,1,1,0]],'
    b'["BatchNorm2d","features.3",[128]],["ReLU","features.4"],["MaxPool2d","features.6",[2]],["Conv2d","features.7",[256,512,3,1,1'
    b'["AdaptiveAvgPool2d","avgpool",[1]],["Flatten","flatten"],["Dropout","dropout"],["Linear","head",[["Linear","classifier",'
    b'[512,4096]],["Linear","linear",[64,10]],["Linear","fc",[512,10]]]}'
    # residual blocks
    b'["Conv2d","layer2.0.downsample.0",[64,128,1,2,0,1,1,0],6],["BatchNorm2d","layer2.0.downsample.1",[128]],'
    b'["getitem","layer2.0.downsample",6,[[],[],[null,null,2],[null,null,2]]],["pad","layer2.0.downsample",1,[0,0,0,0,8,8]],'
    b'["add","layer2.0",[3],[1]],["Conv2d","conv1",[3,16,3,1,1,1,1,0]],["BatchNorm2d","bn1",[16]],["ReLU","relu"],'
    b'["MaxPool2d","maxpool",[3,2,1]],["Conv2d","layer1.0.conv1",[16,16,3,1,1,1,1,0]],["BatchNorm2d","layer1.0.bn1",[16]],'
    b'["ReLU","layer1.0.relu1"],["Conv2d","layer1.0.conv2",[16,16,3,1,1,1,1,0]],["BatchNorm2d","layer1.0.bn2",[16]],'
    b'["add","layer1.0",[1],[6]],["ReLU","layer1.0.relu2"],["Conv2d","layer1.1.conv1",[16,'
    # numbered chains, and how a structure begins
    b'["Conv2d","0",[1,16,3]],["BatchNorm2d","1",[16]],["ReLU","2"],["MaxPool2d","3",[2]],["Conv2d","4",[16,32,5,1,1]],["ReLU","5"],'
    b'["Dropout","6"],["Flatten","7"],["Linear","8",[256,128]],["Linear","9",[100,10]]]}}{"graph":{"v":1,"in":[3,32,32],"n":['
    b'{"graph":{"v":1,"in":[1,28,28],"n":[["Flatten","0"],["Linear","1",[784,256]],["ReLU","2"],["Linear","3",[256,10]]]}}'
)
