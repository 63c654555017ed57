#!/usr/bin/env python3
"""Checks every dependency's licence expression against the `allow` list of a cargo-deny configuration."""

import json
import re
import subprocess
import sys


def allowed_licences(path):
    text = open(path, encoding="utf-8").read()
    block = re.search(r"^allow = \[(.*?)\]", text, re.S | re.M).group(1)
    return set(re.findall(r'"([^"]+)"', block))


def satisfied(expression, allowed):
    """SPDX expression over AND, OR and parentheses, with the old `/` for OR."""
    tokens = re.findall(r"\(|\)|[^()\s/]+(?: WITH [^()\s/]+)?|/", expression)
    words = []
    for token in tokens:
        if token in "()":
            words.append(token)
        elif token in ("OR", "/"):
            words.append("or")
        elif token == "AND":
            words.append("and")
        else:
            words.append(str(token in allowed))
    return eval(" ".join(words), {"__builtins__": {}}, {})


def main():
    allowed = allowed_licences(sys.argv[1])
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"], check=True, capture_output=True, text=True
    )
    packages = json.loads(metadata.stdout)["packages"]
    wrong = [p for p in packages if not satisfied(p["license"] or "NONE", allowed)]
    for package in wrong:
        print(f"{package['name']} {package['version']}: licence {package['license']} is not allowed")
    print(f"{len(packages)} packages, {len(wrong)} with a licence that is not allowed")
    return 1 if wrong else 0


sys.exit(main())
