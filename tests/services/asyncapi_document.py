"""Checks an AsyncAPI 3 document: by the specification's schema, and that what it refers to is there and is a schema.

Usage: asyncapi_document.py SCHEMAS FILE    SCHEMAS: the folder `schemas` of the package @asyncapi/specs
"""

import json
import pathlib
import sys

import jsonschema
import yaml


def references(node, path="#"):
    """Every `$ref` with the place where it stands."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref" and isinstance(value, str):
                yield path, value
            else:
                yield from references(value, f"{path}/{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from references(value, f"{path}/{index}")


def resolve(document, folder, reference):
    """What a reference names: a place in the document, or a file beside it."""
    if not reference.startswith("#"):
        return json.loads((folder / reference).read_text())
    node = document
    for part in reference[2:].split("/"):
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def faults(document, folder, schemas):
    version = document.get("asyncapi", "?")
    schema = schemas / f"{version}.json"
    if not schema.is_file():
        yield f"no schema of AsyncAPI {version}"
        return
    for error in jsonschema.Draft7Validator(json.loads(schema.read_text())).iter_errors(document):
        deepest = jsonschema.exceptions.best_match([error])
        yield f"{deepest.json_path}: {deepest.message[:300]}"
    for place, reference in references(document):
        try:
            found = resolve(document, folder, reference)
        except (OSError, KeyError, TypeError, ValueError) as error:
            yield f"{place}: {reference} is not there ({error!r})"
            continue
        if not reference.startswith("#"):
            jsonschema.validators.validator_for(found).check_schema(found)
    for name, operation in document.get("operations", {}).items():
        if not operation["channel"]["$ref"].startswith("#/channels/"):
            yield f"operation {name} names no channel"
    used = {reference for _, reference in references(document)}
    for kind, entries in document.get("components", {}).items():
        for name in entries:
            if f"#/components/{kind}/{name}" not in used:
                yield f"#/components/{kind}/{name} is used nowhere"


def main():
    schemas, file = map(pathlib.Path, sys.argv[1:3])
    found = list(faults(yaml.safe_load(file.read_text()), file.parent, schemas))
    for fault in found:
        print(f"{file}: {fault}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
