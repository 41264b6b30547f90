#!/usr/bin/env python3
"""Write a text file as a C array, called as the output file is: embed.py share/catalogue.json catalogue_shipped.c

Character constants, since a string literal may hold no more than 4095 bytes in C11."""
import pathlib
import sys

source, out = map(pathlib.Path, sys.argv[1:])
constants = [f"'\\x{byte:02x}'" for byte in source.read_bytes()] + ["0"]
rows = [", ".join(constants[at:at + 16]) for at in range(0, len(constants), 16)]
out.write_text(f'/* Made from {source.name} by tools/embed.py. */\n#include "{out.stem}.h"\n\n'
               f"const char {out.stem}[] = {{\n    " + ",\n    ".join(rows) + "};\n")
