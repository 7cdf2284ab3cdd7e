#!/usr/bin/env bash
# pandoc --mathml leaves no space between \log and the letter after it.
#
# Library:  pandoc 3.9 (pypandoc_binary 1.17), Python 3.11
#
# Expected: TeX sets a thin space (1/6 em) between an operator such as \log or \sin and an ordinary symbol after it:
#           "log p". Pandoc's plain HTML does so too, with U+2006, a space of 1/6 em.
#
# Happens:  in MathML the operator is followed by U+2061 (function application), which is invisible and has no width,
#           and neither it nor anything else carries a space (no lspace, rspace or mspace). The two are joined:
#           Chromium 156 draws $\log p$ with nothing between them, "logp". A space has to be written into the formula,
#           \log\,p, which is then twice as wide wherever TeX itself sets the thin space.
#
# Seen:
#   pandoc 3.9
#   \log p    without --mathml: logU+2006<em>p</em>
#   \log p    with --mathml: <mrow><mrow><mi mathvariant="normal">log</mi><mo>U+2061</mo></mrow><mi>p</mi></mrow>
#   \sin x    without --mathml: sinU+2006<em>x</em>
#   \sin x    with --mathml: <mrow><mrow><mi mathvariant="normal">sin</mi><mo>U+2061</mo></mrow><mi>x</mi></mrow>
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
changed() { echo "The behaviour has changed: $1" >&2; exit 1; }
sed -n '/^# Seen:/,/^set /s/^#   //p' "$0" > "$folder/expected"

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q pypandoc_binary==1.17
cd "$folder"
venv/bin/python -I - > seen <<'PY' || changed "the program stopped with an error"
import re
import pypandoc


def html(formula, *options):
    """Pandoc's HTML of one formula, with every other than ASCII character by its code."""
    page = pypandoc.convert_text(f"${formula}$", "html", format="markdown", extra_args=options)
    page = re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), page)
    return re.sub(r"[^\x00-\x7f]", lambda m: f"U+{ord(m[0]):04X}", page)


print("pandoc", pypandoc.get_pandoc_version())
for formula in (r"\log p", r"\sin x"):
    print(f"{formula:<9} without --mathml:", re.search('<span class="math inline">(.*)</span>', html(formula))[1])
    print(f"{formula:<9} with --mathml:", re.search("<mrow>.*</mrow>", html(formula, "--mathml"))[0])
PY
cat seen
diff expected seen >&2 || changed "the output differs from the one in the header (< header, > now)"
echo "As described."
