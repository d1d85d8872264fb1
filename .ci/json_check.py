"""Fails unless a file is one JSON value, or one JSON value on each line."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
try:
    json.loads(text)
except ValueError:
    lines = [line for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
        except ValueError as error:
            sys.exit(f"{sys.argv[1]}: line {number} is not JSON: {error}")
    if not lines:
        sys.exit(f"{sys.argv[1]}: empty")
print(f"{sys.argv[1]}: JSON, {len(text)} characters")
