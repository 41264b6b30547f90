#!/usr/bin/env python3
"""Write a text file as a C array, called as the output file is: embed.py share/catalogue.json catalogue_shipped.c [HEADER [BEFORE]]

HEADER declares it; without, it is called as the output file is, too. The text of BEFORE stands before it. Character constants, since a string literal may hold no more than 4095 bytes in C11."""
import pathlib
import sys

source, out = map(pathlib.Path, sys.argv[1:3])
header = sys.argv[3] if len(sys.argv) > 3 else f"{out.stem}.h"
before = pathlib.Path(sys.argv[4]).read_bytes() if len(sys.argv) > 4 else b""
constants = [f"'\\x{byte:02x}'" for byte in before + source.read_bytes()] + ["0"]
rows = [", ".join(constants[at:at + 16]) for at in range(0, len(constants), 16)]
out.write_text(f'/* Made from {source.name} by tools/embed.py. */\n#include "{header}"\n\n'
               f"const char {out.stem}[] = {{\n    " + ",\n    ".join(rows) + "};\n")
