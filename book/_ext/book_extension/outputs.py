"""What the cells of a notebook show."""

from docutils import nodes


def alt_text(render_image):
    """Give an output image the alternative text that is stored with the output.

    MyST-NB reads only width and height there.
    """

    def render(self, data):
        images = render_image(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        for image in images:
            if alt and isinstance(image, nodes.image):
                image["alt"] = alt
        return images

    return render


def without_figure_text(render_html):
    """Leave out the text below a figure, which attn_lib.plot.show adds for notebooks."""

    def render(self, data):
        return [] if "class='figure-text'" in data.string else render_html(self, data)

    return render


def without_empty_text(render_text):
    """Leave out an output of no words, which would be drawn as a box of one empty line."""

    def render(self, data):
        return render_text(self, data) if data.string.strip() else []

    return render
