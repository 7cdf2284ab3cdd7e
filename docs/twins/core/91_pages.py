# %% [markdown]
# # Pages
#
# > What the pages of this book are made of: tables of rows, and figures of one look.

# %% [markdown]
# A page shows numbers as a table and curves as a figure. Both are made in one place, so that a table can be read without counting braces, and a figure says the same in print, on a dark screen and to a colour-blind reader. No mathematics here either.

# %%
#| default_exp core.pages

# %%
#| exports
from collections.abc import Sequence

# %%
#| hide
from fastcore.test import test_eq


# %% [markdown]
# ## Rows
#
# A row is a dictionary from column to entry, a table is a sequence of rows. Rows need not have the same columns: what is missing stays empty. The first column names the row and is aligned left, all others are numbers and are aligned right, so that digits stand under digits.

# %%
#| exports
def columns(rows: Sequence[dict]) -> list[str]:
    "The names that occur in any of the rows, in the order of their first occurrence."
    return list(dict.fromkeys(k for row in rows for k in row))


def markdown_table(rows: Sequence[dict]) -> str:
    "Rows as a markdown table, the first column aligned left and the others right; missing entries are left empty."
    names = columns(rows)
    ruler = ["---" if i == 0 else "---:" for i in range(len(names))]
    cell = lambda v: str(v).replace("|", "\\|")  # a bar would end the cell
    lines = [map(cell, names), ruler] + [[cell(row.get(k, "")) for k in names] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# %%
rows = [{"model": "PCA", "error": 0.0237},
        {"model": "DBAE", "error": 0.0089, "rate": 15}]
test_eq(markdown_table(rows).splitlines()[1], "| --- | ---: | ---: |")
test_eq(markdown_table(rows).splitlines()[2], "| PCA | 0.0237 |  |")
test_eq(markdown_table([{"a|b": 1}]).splitlines()[0], r"| a\|b |")
columns(rows)


# %% [markdown]
# In a lesson the numbers usually come as a dictionary: one entry a row, or a dictionary a row. `Table` takes either, or rows, rounds what is not rounded yet to a few significant digits, and shows itself.

# %%
#| exports
class Table:
    """Rows that show themselves as a table: dictionaries, or {row: entry or dictionary of entries}.

    `name` heads the first column, `value` that of single entries; floats have `digits` significant digits.
    """

    def __init__(self, rows: Sequence[dict] | dict, name: str = "", value: str = "value", digits: int = 3):
        if isinstance(rows, dict):
            rows = [{name: k} | (v if isinstance(v, dict) else {value: v}) for k, v in rows.items()]
        show = lambda v: f"{v:.{digits}g}" if isinstance(v, float) else v
        many = lambda v: ", ".join(str(show(w)) for w in v) if type(v) in (list, tuple) else show(v)
        self.rows = [{k: many(v) for k, v in row.items()} for row in rows]

    def __repr__(self) -> str: return markdown_table(self.rows)

    def _repr_markdown_(self) -> str: return repr(self)


# %%
errors = {"PCA": {"error": 0.023704, "seeds": [1, 2]}, "DBAE": {"error": 0.0088512}}
test_eq(Table(errors, "model").rows[0],
        {"model": "PCA", "error": "0.0237", "seeds": "1, 2"})
test_eq(repr(Table({"a": 1.23456}, value="nats")),
        "|  | nats |\n| --- | ---: |\n| a | 1.23 |")
Table(errors, "model")


# %% [markdown]
# ## Figures
#
# `paper` sets the look of all figures of a page: the style of the package (colours that a colour-blind reader can tell apart, text that is readable at half size) and curves as SVG, which stays sharp at any size. Rows of images are pixels and stay PNG ([Pictures](../use/44_pictures.ipynb)). The file says neither when it was made nor anything random, so that a page executed twice is the same page.

# %%
#| exports
def paper() -> None:
    "Give the figures of a notebook the package's style, as SVG that is the same each time; needs IPython."
    import matplotlib.style
    from IPython import get_ipython
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    matplotlib.style.use("scoreae.paper")
    set_matplotlib_formats("svg", metadata={"Date": None, "Creator": None})
    svg = get_ipython().display_formatter.formatters["image/svg+xml"]
    svg.for_type_by_name("scoreae.use.pictures", "Plot", lambda figure: None)  # pixels: shown as PNG


# %%
#| hide
import matplotlib.pyplot as plt
import numpy as np

# %%
#| label: fig-look
#| fig-cap: Seven colours and four line styles, in the order in which curves take them.
#| fig-alt: Seven parallel sine curves in the seven colours of the style, the last four broken.
paper()
fig, ax = plt.subplots(figsize=(6, 2))
t = np.linspace(0, 6, 100)
for i in range(7): ax.plot(t, np.sin(t - i / 3), ["-", "--", "-.", ":"][max(0, i - 3)])
ax.set(xlabel="argument [radians]", ylabel="sine");

# %% [markdown]
# ## What can go wrong
#
# * **Too many digits.** `Table` rounds floats only. A number with an uncertainty is a string by then, and was rounded by its uncertainty.
# * **A figure in a report.** `paper` changes the style of the whole notebook. Library code opens the style for one figure (`matplotlib.style.context`) and leaves the rest alone.
