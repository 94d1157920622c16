#!/usr/bin/env bash
# Every crate that the program is built of, with its licence and where it comes from.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo metadata --locked --format-version 1 | python3 -c '
import json, sys
for package in sorted(json.load(sys.stdin)["packages"], key=lambda package: (package["name"], package["version"])):
    source = package["repository"] or package["homepage"] or "https://crates.io/crates/" + package["name"]
    print(package["name"], package["version"], package["license"] or "see " + str(package["license_file"]), source, sep="\t")
'
