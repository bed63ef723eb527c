"""The description of each chart value: written once, as a `# -- ` comment in values.yaml, and copied from there into
values.schema.json and the table of the chart's README.

    values_docs.py CHART            print what differs and fail if anything does
    values_docs.py CHART --update   write both
"""

import json
import pathlib
import re
import sys

import yaml

BEGIN = "<!-- The table is made from values.yaml by `tests/chart/run --update`. -->"
END = "<!-- End of the table. -->"


def comments(text):
    """Path of a value (a tuple of keys) -> its description."""
    found, stack, description = {}, [], None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("# -- "):
            if description is not None:
                raise SystemExit(f"values.yaml:{number}: a description follows a description; which value is the first for?")
            description = [stripped[5:]]
        elif stripped.startswith("#"):
            if description is not None:
                description.append(stripped[1:].strip())
        elif match := re.match(r"^( *)([A-Za-z0-9_./-]+):", line):
            depth = len(match[1])
            stack = [(d, key) for d, key in stack if d < depth] + [(depth, match[2])]
            if description is not None:
                found[tuple(key for _, key in stack)] = " ".join(description)
            description = None
        elif description is not None:
            raise SystemExit(f"values.yaml:{number}: a description must stand right above its value")
    return found


def value_at(values, path):
    for key in path:
        values = values[key]
    return values


def undescribed(values, described, path=()):
    """Paths of values that neither have a description nor lie under a value that has one."""
    if path in described:
        return []
    if isinstance(values, dict) and values:
        return [p for key, value in values.items() for p in undescribed(value, described, (*path, key))]
    return [path]


def schema_at(schema, path):
    for key in path:
        schema = schema.get("properties", {}).get(key)
        if schema is None:
            return None
    return schema


def schema_leaves(schema, described, path=()):
    """Paths of the schema down to where descriptions stand."""
    if path in described or "properties" not in schema:
        return [path]
    return [p for key, sub in schema["properties"].items() for p in schema_leaves(sub, described, (*path, key))]


def with_descriptions(schema, described):
    schema = json.loads(json.dumps(schema))
    for path, description in described.items():
        node = schema_at(schema, path)
        rest = {key: value for key, value in node.items() if key != "description"}
        node.clear()
        node.update({"description": description.replace("`", ""), **rest})
    return schema


def table(values, described):
    names = {str: "string", bool: "bool", int: "int", float: "float", list: "list", dict: "object", type(None): "null"}
    rows = ["| Key | Type | Default | Description |", "|-----|------|---------|-------------|"]
    for path in sorted(described, key=lambda p: [key.lower() for key in p]):
        value = value_at(values, path)
        default = json.dumps(value, ensure_ascii=False)
        cells = ".".join(path), names[type(value)], f"`{default}`", described[path]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def problems(chart, update=False):
    """What is missing or differs, one sentence each; with `update`, writes what can be written first."""
    text = (chart / "values.yaml").read_text()
    values, described = yaml.safe_load(text), comments(text)
    schema_file, readme_file = chart / "values.schema.json", chart / "README.md"
    schema_text, readme_text = schema_file.read_text(), readme_file.read_text()
    schema = json.loads(schema_text)

    found = [f"values.yaml: {'.'.join(p)} has no `# -- ` description" for p in undescribed(values, described)]
    found += [f"values.schema.json does not know the value {'.'.join(p)}" for p in described if schema_at(schema, p) is None]
    leaves = [p for p in schema_leaves(schema, described) if p != ("global",)]
    found += [f"values.schema.json has {'.'.join(p)}, which values.yaml does not describe" for p in leaves if p not in described]
    if found:
        return found

    new_schema = json.dumps(with_descriptions(schema, described), indent=2, ensure_ascii=False) + "\n"
    head, _, rest = readme_text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    if not rest or not tail:
        return [f"the chart's README.md lacks the lines that enclose the table: {BEGIN} and {END}"]
    new_readme = f"{head}{BEGIN}\n\n{table(values, described)}\n\n{END}{tail}"
    if update:
        schema_file.write_text(new_schema)
        readme_file.write_text(new_readme)
        return []
    if new_schema != schema_text:
        found.append("values.schema.json: its descriptions differ from values.yaml; run tests/chart/run --update")
    if new_readme != readme_text:
        found.append("README.md of the chart: its table differs from values.yaml; run tests/chart/run --update")
    return found


if __name__ == "__main__":
    sentences = problems(pathlib.Path(sys.argv[1]), "--update" in sys.argv[2:])
    print("\n".join(sentences), end="\n" if sentences else "")
    sys.exit(bool(sentences))
