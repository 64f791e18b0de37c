"""A dataset's description for machines: Croissant 1.0 (https://docs.mlcommons.org/croissant), JSON-LD.

It names every table with its hash, the clips as a set of files, and the columns with their types.
"""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.media import sha256_file

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    **{
        name: {"@id": f"cr:{name}", "@type": kind}
        for name, kind in (("data", "@json"), ("dataType", "@vocab"), ("examples", "@json"))
    },
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes "
            "isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
            "samplingRate separator source subField transform"
        ).split()
    },
}
_TYPES = (
    (pa.types.is_boolean, "sc:Boolean"),
    (pa.types.is_integer, "sc:Integer"),
    (pa.types.is_floating, "sc:Float"),
    (pa.types.is_timestamp, "sc:DateTime"),
)


def croissant(folder: Path, card: str) -> dict[str, Any]:
    """Describes the Parquet tables and clips of a folder.

    Args:
        folder: of a dataset; its tables are the Parquet files in it and in `pairs/`.
        card: the dataset's README.md, for name, licence and description.

    Returns:
        The JSON-LD document.
    """
    tables = sorted(folder.glob("pairs/*.parquet")) + sorted(folder.glob("*.parquet"))
    head = card.split("---\n")[1]
    found: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": _field(head, "pretty_name"),
        "description": _first_paragraph(card),
        "license": _field(head, "license"),
        "conformsTo": CONFORMS_TO,
        "version": "1.0.0",
        "distribution": [_file(folder, path) for path in tables],
        "recordSet": [_records(folder, path) for path in tables],
    }
    if (folder / "clips").is_dir():
        found["distribution"].append(
            {
                "@type": "cr:FileSet",
                "@id": "clip-files",
                "name": "clip-files",
                "description": "The clips, one file each.",
                "encodingFormat": "video/mp4",
                "includes": "clips/*",
            }
        )
    return found


def _file(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": sha256_file(path),
    }


def _records(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    records = name.removesuffix(".parquet").replace("/", "-table-")
    return {
        "@type": "cr:RecordSet",
        "@id": records,
        "name": records,
        "description": f"The rows of {name}.",
        "field": [_column(records, name, field) for field in pq.read_schema(path)],
    }


def _column(records: str, file: str, field: pa.Field) -> dict[str, Any]:
    if pa.types.is_struct(field.type):  # a file's bytes and name
        return _embedded(records, file, field)
    repeated = pa.types.is_list(field.type)
    kind = field.type.value_type if repeated else field.type
    found = {
        "@type": "cr:Field",
        "@id": f"{records}/{field.name}",
        "name": field.name,
        "dataType": next((name for is_kind, name in _TYPES if is_kind(kind)), "sc:Text"),
        "source": {"fileObject": {"@id": file}, "extract": {"column": field.name}},
    }
    return found | ({"repeated": True} if repeated else {})


def _embedded(records: str, file: str, field: pa.Field) -> dict[str, Any]:
    kind = {"reference_image": "sc:ImageObject", "audio": "sc:AudioObject"}.get(field.name, "sc:VideoObject")
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{field.name}",
        "name": field.name,
        "dataType": kind,
        "source": {
            "fileObject": {"@id": file},
            "extract": {"column": field.name},
            "transform": {"jsonPath": "bytes"},
        },
    }


def _field(head: str, name: str) -> str:
    found = re.search(rf"^{name}: (.+)$", head, re.MULTILINE)
    return found.group(1).strip('"') if found else "other"


def _first_paragraph(card: str) -> str:
    body = card.split("---\n", 2)[2]
    paragraphs = [block for block in body.split("\n\n") if block.strip() and not block.lstrip().startswith(("#", ">"))]
    return " ".join(paragraphs[0].split()) if paragraphs else ""
