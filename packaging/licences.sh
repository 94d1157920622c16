#!/usr/bin/env bash
# Every crate that the program is built of, with its licence and where it comes from, then the texts of these licences, each once.
# `licences.sh TARGET` for another target than this machine's own.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-$(rustc -vV | sed -n 's/^host: //p')}
cargo metadata --locked --filter-platform "$target" --format-version 1 | python3 -c '
import json, pathlib, sys

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
wanted = [id for id, package in packages.items() if package["name"] == "evalsuite"]
used = set()
while wanted:
    id = wanted.pop()
    if id not in used:
        used.add(id)
        # Kind None: no dependency of tests or of build scripts.
        kinds = lambda dependency: [kind["kind"] for kind in dependency["dep_kinds"]]
        wanted += [dependency["pkg"] for dependency in nodes[id]["deps"] if None in kinds(dependency)]

texts = {}
for package in sorted((packages[id] for id in used), key=lambda package: (package["name"], package["version"])):
    source = package["repository"] or package["homepage"] or "https://crates.io/crates/" + package["name"]
    print(package["name"], package["version"], package["license"] or "see " + str(package["license_file"]), source, sep="\t")
    for file in sorted(pathlib.Path(package["manifest_path"]).parent.iterdir()):
        if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")):
            text = file.read_text(errors="replace").replace("\r\n", "\n").strip()
            texts.setdefault(text, []).append(package["name"] + " " + package["version"])
for text, crates in texts.items():
    print("\n" + "-" * 80, ", ".join(crates), "", text, sep="\n")
'
