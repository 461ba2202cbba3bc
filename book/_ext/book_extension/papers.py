"""A link to a paper is followed by the number of its entry, and the entry says who cites it."""

from docutils import nodes

REFERENCES = "book/references"


def entries(app):
    """The entries of the bibliography by the addresses that chapters link to."""
    found = {}
    for citation in app.env.get_domain("cite").citations:
        fields = citation.entry.fields
        if "eprint" in fields:
            found[f"https://arxiv.org/abs/{fields['eprint']}"] = citation
        if "doi" in fields:
            found[f"https://doi.org/{fields['doi']}"] = citation
        if "url" in fields:
            found[fields["url"]] = citation
    return found


def always_outdated(app, env, added, changed, removed):
    """The list of references shows what other pages cite."""
    return [REFERENCES]


def link_papers(app, doctree, docname):
    """Put the number of its entry after the first link to each paper."""
    if docname == REFERENCES:
        return _say_who_cites(app, doctree)
    known = entries(app)
    page = app.builder.get_relative_uri(docname, REFERENCES)
    for link in list(doctree.findall(nodes.reference)):
        citation = known.pop(link.get("refuri", ""), None)
        if citation:
            target = f"{page}#{citation.citation_id}"
            number = nodes.Text(f"[{citation.formatted_entry.label}]")
            entry = nodes.reference("", "", number, refuri=target, internal=True, classes=["paper"])
            place = link.parent.index(link) + 1
            link.parent[place:place] = [nodes.Text("\N{NO-BREAK SPACE}"), entry]
    return None


def _say_who_cites(app, doctree):
    known = {address: citation.citation_id for address, citation in entries(app).items()}
    citing = {}
    for docname in sorted(app.env.found_docs - {REFERENCES}):
        for link in app.env.get_doctree(docname).findall(nodes.reference):
            entry = known.get(link.get("refuri", ""))
            if entry and docname not in citing.setdefault(entry, []):
                citing[entry].append(docname)
    for entry in doctree.findall(nodes.citation):
        said = nodes.paragraph("", "Cited in ", classes=["cited-in"])
        for docname in citing.get(entry["ids"][0], []):
            if len(said) > 1:
                said += nodes.Text(", ")
            address = app.builder.get_relative_uri(REFERENCES, docname)
            title = app.env.titles[docname].astext()
            said += nodes.reference("", "", nodes.Text(title), refuri=address, internal=True)
        if len(said) > 1:
            entry += said
