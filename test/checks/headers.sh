#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every header compiles alone, with the flags its folder is built with and without precompiled headers. One that the source
# of its own name includes before anything else does so in a build without them, as that of the release archive; the others
# are tried here.
#   headers.sh BUILD_FOLDER
set -euo pipefail
cd "$(dirname "$0")/../.."

python3 - "$1" <<'PY'
import concurrent.futures, json, os, pathlib, re, shlex, subprocess, sys

build = sys.argv[1]
flags = {}  # folder -> command without its input and outputs
built = set()
for entry in json.load(open(os.path.join(build, "compile_commands.json"))):
    source = os.path.relpath(os.path.join(entry["directory"], entry["file"]), ".")
    folder = source.split(os.sep)[0]
    words = shlex.split(entry["command"])
    if not source.endswith(".cpp") or source.startswith(".."):
        continue
    if folder != "test" or not {"-include", "-include-pch"} & set(words):
        built.add(source)
    kept, skip = [], False
    for word in words[:-1]:
        if skip or word in ("-o", "-MF", "-MQ", "-include", "-include-pch"):
            skip = not skip
        elif word not in ("-c", "-MD", "ccache") and not word.endswith("ccache"):
            kept.append(word)
    # The command that knows most include folders serves all of its folder.
    key = "/".join(source.split(os.sep)[:3]) if folder == "test" else folder
    for name in {key, folder}:
        if len(kept) > len(flags.get(name, [])):
            flags[name] = kept

def lone(header):
    parts = header.split("/")
    command = flags.get("/".join(parts[:3])) or flags.get(parts[0])
    if command is None:
        return None
    # Included rather than compiled: "#pragma once" in a main file is a warning of its own.
    run = subprocess.run(command + ["-fsyntax-only", "-I" + os.getcwd(), "-x", "c++", "-"], cwd=build,
                         input=f'#include "{header}"\n', capture_output=True, text=True)
    return run.stderr.strip() if run.returncode else ""

def opens_its_source(header):
    source = header.removesuffix(".hpp") + ".cpp"
    first = re.search(r'^ *# *(?:include[ "<]+([^">]+)|\w+)', pathlib.Path(source).read_text(), re.M) if source in built else None
    return first is not None and first[1] == header

headers = [str(path) for folder in ("conf", "protocols", "tls", "proxy", "test")
           for path in sorted(pathlib.Path(folder).rglob("*.hpp"))]
opened = {header for header in headers if opens_its_source(header)}
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    results = dict(zip(headers, pool.map(lambda header: "" if header in opened else lone(header), headers)))
bad = {header: text for header, text in results.items() if text}
for header, text in bad.items():
    print(f"{header} does not compile alone:\n{text}")
skipped = [header for header, text in results.items() if text is None]
if skipped:
    print("nothing of their folder is built:", *skipped)
print(f"headers: {len(headers) - len(bad) - len(skipped)} compile alone, {len(opened)} of them as the first line of their own source; "
      f"{len(bad)} do not, {len(skipped)} skipped")
sys.exit(bool(bad))
PY
