"""The networks of the zoo, one family a file; each file's ``ENTRIES`` names what it builds.

A file put into this folder is in the zoo: `netpress.zoo.catalog` lists the folder, and nothing else is edited.
"""
