"""The list of products in the observatories' form, with sizes and SHA-256 checksums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from .archives import sha256
from .report import clean

if TYPE_CHECKING:
    from .exportdata import Export, Exported

RESTORE = "restoredata"
"""Element under a measurement set with what a restore has to know, as in the manifests of the observatories."""


def write(job: Export, attributes: Mapping[str, Mapping[str, str]]) -> bytes:
    """The manifest of what was made; ``attributes`` by measurement set."""
    from ..plugins import kernel_version

    context = job.ctx.context
    root = Element("piperesults", name=context.run_name)
    ous = SubElement(root, "ous", name=job.stem)
    SubElement(ous, "casaversion", name=str(job.ctx.casa.version))
    SubElement(ous, "pipeline_version", name=kernel_version())
    SubElement(ous, "procedure_name", name=context.recipe_name or "stage by stage")
    environment = SubElement(ous, "execution_environment")
    SubElement(environment, "node", {str(k): clean(str(v)) for k, v in job.record.environment.items()})
    places: dict[str, Element] = {}
    sessions = {}
    for session, sets in job.sessions.items():
        sessions[session] = SubElement(ous, "session", name=clean(session))
        for ms in sets:
            places[ms.name] = SubElement(sessions[session], "asdm", name=ms.name)
            facts = {k: clean(v) for k, v in attributes.get(ms.name, {}).items()}
            if facts:
                SubElement(places[ms.name], RESTORE, facts)
    for product in job.made:
        parent = places.get(product.source, ous)
        if product.kind == "caltables" or product.tag in ("caltables", "bltables"):
            parent = sessions.get(product.source, ous)
        more = {"imagetype": clean(product.doc)} if product.tag == "image" else {}
        SubElement(parent, product.tag or product.kind, {**_facts(job, product), **more})
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _facts(job: Export, product: Exported) -> dict[str, str]:
    path = job.products / product.name
    return {"name": product.name, "bytes": str(product.size_bytes), "sha256": sha256(path)}
