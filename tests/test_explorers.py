"""Sliders are their figures: driven by their values, without a browser, for every kind of model."""

import pytest
import torch

import scoreae as sa
from scoreae.use import sliders
from scoreae.use.edits import axis_direction

pytest.importorskip("ipywidgets")


@pytest.fixture(scope="module")
def x(): return sa.data.patches("test", size=8, limit=6)


@pytest.fixture(scope="module", params=["PCA", "AE", "SAMI", "DBAE", "DiffAE"])
def model(request, x):
    torch.manual_seed(0)
    model = sa.make(request.param, (3, 8, 8), 3, width=8)
    sa.fit(model, x, steps=2, progress=False)
    return model


def controls(box) -> dict: return {c.description: c for c in box.children[:-2]}


def shown(box) -> bytes: return bytes(box.children[-2].value)


def test_each_slider_shows_its_figure(model, x):
    box = sliders.slide_axis(model, x, axis=1, steps=2)
    for name, value in {"amount": -1.0, "axis": 2, "image": 3}.items(): controls(box)[name].value = value
    assert shown(box) == sliders.plot_axis(model, x, 3, 2, -1.0, steps=2).png(100)

    direction = axis_direction(model, 0)
    box = sliders.slide_edit(model, x, direction, steps=3)
    for name, value in {"amount": 2.0, "image": 1}.items(): controls(box)[name].value = value
    assert shown(box) == sliders.plot_edit(model, x, direction, 1, 2.0, steps=3).png(100)

    box = sliders.slide_line(model, x, steps=2)
    for name, value in {"share": 1.0, "second": 4, "mode": "sample"}.items(): controls(box)[name].value = value
    assert shown(box) == sliders.plot_line(model, x, 0, 4, 1.0, "sample", steps=2).png(100)

    box = sliders.slide_walk(model, x, at=(0, 3), steps=3)
    for name, value in {"step": 2, "mode": "point", "seed": 5}.items(): controls(box)[name].value = value
    assert shown(box) == sliders.plot_walk(model, x, 0, 2, "point", steps=3, seed=5).png(100)


def test_a_slider_stays_inside_what_it_was_given(model, x):
    amount = controls(sliders.slide_axis(model, x, amounts=(-1.0, 0.5, 3.0), steps=1))["amount"]
    assert (amount.min, amount.max, amount.value) == (-1.0, 3.0, 1.0)
    step = controls(sliders.slide_walk(model, x, at=(0, 2), steps=2))["step"]
    step.value = 7
    assert step.value == 2


def test_mistakes_are_said_before_anything_is_drawn(model, x):
    for call in (lambda: sliders.plot_axis(model, x, axis=3), lambda: sliders.plot_axis(model, x, image=6),
                 lambda: sliders.plot_line(model, x, shares=[]), lambda: sliders.plot_walk(model, x, at=11),
                 lambda: sliders.plot_walk(model, x, mode="both"),
                 lambda: sliders.plot_axis(model, x, amounts="far")):  # fmt: skip
        with pytest.raises(ValueError, match=r"^(axis|image|shares|at|mode|amounts): expected"): call()
