"""Write the tables of SAMI's experiments into docs/results/sami.md, from their stored rows.

    python -m bench.claims.sami_tables
"""

import json

import numpy as np

from bench.stored import RESULTS, ROOT
from scoreae.core.pages import markdown_table
from scoreae.models.contract import write_atomic

MARK = "<!-- what follows is written by bench/claims/sami_tables.py -->"


def show(values, digits=2):
    "Mean ± standard deviation over seeds."
    v = np.array(values, float)
    spread = f" ± {v.std(ddof=1):.{digits}f}" if len(v) > 1 and v.std() > 0 else ""
    return f"{v.mean():.{digits}f}{spread}" if len(v) else ""


def groups(rows, by="model"):
    found = {}
    for r in rows: found.setdefault(r[by], []).append(r)
    return found


def disks(d):
    known, scores, factors = [], [], ("x", "y", "background")
    for name, rows in groups(d["rows"]).items():
        line = {"code": name, "seeds": len(rows)}
        for kind in ("linear", "k-NN", "MLP", "k-NN of a draw", "full range"):
            found = [show([r[kind][f] for r in rows if kind in r]) for f in factors]
            line[kind] = ", ".join(found) if any(found) else ""
        known.append(line)
        line = {"code": name}
        for kind in ("DCI", "MIG"):
            line[kind] = show([r[kind]["value"] for r in rows])
            line[f"{kind}, rotated"] = show([r[kind]["rotated"] for r in rows])
        line["MIG of the background"] = show([r["MIG each"]["background"] for r in rows])
        line |= {k: show([r[k] for r in rows if k in r], 1) for k in ("rate", "gain", "energy")}
        scores.append(line | {"CPU seconds": show([r["CPU seconds"] for r in rows], 0)})
    return known, scores


def straight(d):
    kinds, lines = ("shapes", "digits", "clothes"), []
    for name, rows in groups(d["rows"]).items():
        bend = lambda m, which, rows=rows: show(
            [np.mean([r[which][f"{k}, {m}"]["degrees"] for k in kinds]) for r in rows if which in r], 1)  # fmt: skip
        line = {"code": name, "seeds": len(rows)}
        line |= {m: bend(m, "clips") for m in ("move", "rotate", "scale", "fade", "shuffled", "linear fade")}
        line["move, whitened"] = bend("move", "whitened")
        line["R2 (%)"] = show([100 * r["R2"] for r in rows if "R2" in r], 1)
        lines.append(line)
    return (lines,)


def natural(d):
    lines = []
    for r in d["rows"]:
        step = r["u"][1] - r["u"][0]
        for code, s in r["alignment"].items():
            line = {"set": r["set"], "code": code, "TAD": show([s["TAD"]]), "ATTRS": s["ATTRS"]}
            line["TAD rotated"] = f"{s['TAD rotated']:.2f} ± {s['± rotated']:.2f}"
            if code == "SAMI":
                line |= {k: show([sum(r[k]) * step], 1) for k in ("gain", "energy", "cross")}
                line["rate"] = show([sum(row["rate"] for row in r["table"])], 1)
            lines.append(line)
    return (lines,)


def guidance(d):
    found = d["ratio to the denoiser alone (median of rounds)"]
    return ([{"training step of": k, "ratio": f"{v:.2f}"} for k, v in found.items()],)


def frozen(d):
    lines = []
    for r in d["rows"]:
        line = {"code": r["code"], "linear probe (%)": f"{r['accuracy (%)']} ± {r['stderr']}"}
        levels = d["gain by level"].get(r["code"].removeprefix("SAMI, "))
        step = levels["u"][1] - levels["u"][0] if levels else 0
        nats = lambda k, levels=levels, step=step: f"{sum(levels[k]) * step:.2f}" if levels else ""
        lines.append(line | {f"{k} (nats)": nats(k) for k in ("gain", "energy")})
    return (lines,)


def beginnings(d):
    kept, lines = [r for r in d["rows"] if r["model"] != "controls"], []
    for name, rows in groups(kept, "set").items():
        control = next(r for r in d["rows"] if (r["set"], r["model"]) == (name, "controls"))
        lines += [{"set": name, "encoder": k, "point": show([control[k]], 4)} for k in ("mean image", "PCA")]
        for model, own in groups(rows).items():
            line = {"set": name, "encoder": model}
            line |= {k: show([r[k] for r in own], 4) for k in ("point", "point, no noise shown", "sample")}
            lines.append(line | {k: show([r[k] for r in own]) for k in ("bits/dim", "rate", "gain", "energy")})
    return (lines,)


TEXTS = {
    "guidance": (guidance, "What guidance costs",
                 "Training step relative to a plain step of its denoiser; 8×8 images, width 32, batches of 64, CPU "
                 "time, medians of interleaved rounds. The target was 2.5 at half width. The gradient by forward mode "
                 "is equal to the one by double backward (relative difference 5e-16 in float64) and slower. torch "
                 "cannot differentiate a compiled encoder twice; its gradient, compiled as one function, it can, "
                 "which gains nothing here. None of this is in the library. The free residual is computed once, for "
                 "the free and the guided error."),
    "frozen": (frozen, "[A frozen DDPM](sami_claims/66_frozen_denoiser.ipynb)",
               "A diffusers DDPM (163 985 parameters, 2000 steps of 64 images) on 1200 digits; codes of 8 numbers in "
               "200 steps of 128 images; one seed, ± one standard error over held-out images. Gain: what guidance "
               "takes off half the squared error on held-out images, integrated over log γ; energy: half that of the "
               "guidance, equal to the gain if it is exact."),
    "beginnings": (beginnings, "[Where encoders begin](sami_claims/60_beginnings.ipynb)",
                   "Squared errors on [0, 1] of points and samples of held-out images, bits per dimension, and nats; "
                   "mean ± standard deviation over seeds."),
    "disks": (disks, "[Disks](sami_claims/63_disks.ipynb)",
              "R² of x, y and background by probes of the code's mean, by k-NN of a draw, and by k-NN of the mean on "
              "the full range of contrasts; ± over seeds. Then alignment beside its value after rotations, and nats. "
              "The four told regimes, begun linear, code all three factors in all seeds, as the untrained linear code "
              "does, but the centre not linearly."),
    "straight": (straight, "[Straight videos](sami_claims/65_straight_videos.ipynb)",
                 "Curvature in degrees, mean over shapes, digits and clothes; ± over seeds. R²: linear probe of place, "
                 "scale and opacity of held-out stills. Told the level, SAMI's codes are straighter than the pixels, "
                 "but not than those of PCA, the autoencoder and the VAE."),
    "natural": (natural, "[Natural images](sami_claims/64_natural_images.ipynb)",
                "TAD of attributes of test images; rotated: mean ± deviation over 20 rotations of the code. Gain, "
                "energy, cross term and rate in nats; a gain far above the rate means that the denoiser left its work "
                "to the guidance. One seed."),
}  # fmt: skip


PLACES = {"guidance": ROOT / "bench" / "speed", "frozen": ROOT / "bench" / "claims"}


def main():
    file, parts = RESULTS / "sami.md", []
    for name, (make, title, text) in TEXTS.items():
        own = PLACES.get(name, RESULTS) / f"{name}.json"
        d = json.loads(own.read_text())
        tables = "\n\n".join(markdown_table(lines) for lines in make(d))
        parts.append(f"## {title}\n\n`{d['command']}`\n\n{text}\n\n{tables}\n")
    head = file.read_text().split(MARK)[0].rstrip()
    write_atomic(file, (head + f"\n\n{MARK}\n\n" + "\n".join(parts)).encode())


if __name__ == "__main__": main()
