#!/bin/sh
# Make a virtual environment and install a requirements file into it.
#   make_venv.sh FOLDER REQUIREMENTS
# Python 3.11 or newer is looked for under the names in $PYTHONS, or in $PYTHON alone.
set -eu
folder=$1
requirements=$2
names=${PYTHON:-${PYTHONS:-python3.11 python3.12 python3.13 python3 python}}

found=
for name in $names; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        found=$name
        break
    fi
done
if [ -z "$found" ]; then
    echo "No suitable Python was found (tried: $names)." >&2
    echo "The course needs Python 3.11 or newer: https://www.python.org/downloads/" >&2
    echo "If it is installed under another name: make book PYTHON=/path/to/python3" >&2
    exit 1
fi

echo "Setting up $folder with $("$found" --version) (about 5 GB, a few minutes) ..."
"$found" -m venv "$folder"
PYTHONWARNINGS=ignore "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
