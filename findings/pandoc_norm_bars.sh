#!/usr/bin/env bash
# pandoc --mathml turns the bars of a norm, \|x\|, into two closing bars of the relation "parallel to".
#
# Library:  pandoc 3.9 (pypandoc_binary 1.17), Python 3.11
#
# Expected: in TeX \| is another name for \Vert (plain.tex: \let\|=\Vert), an ordinary symbol with no space of its own.
#           So $\|x\|$ and $\Vert x\Vert$ give the same MathML, with U+2016 (double vertical line), and the bars stand
#           close to x; the first is an opening one (form="prefix") if either is marked at all.
#
# Happens:  \| becomes U+2225 (parallel to), \Vert becomes U+2016, and with either the first bar too is marked
#           form="postfix". MathML's table of operators has U+2225 as a relation only, so it gets 5/18 em at each side:
#           measured in Chromium 156, 0.28 em before and after each bar of $\|x\|$, and of $\left\|x\right\|$ too, whose
#           forms are right; none in $\lVert x\rVert$, which comes out as expected. The plain HTML has U+2225 as well,
#           but without space. A single bar, |x|, is the other way round: both are marked as opening.
#
# Seen:
#   pandoc 3.9
#   \|x\|            U+2225 postfix, U+2225 postfix
#   \Vert x\Vert     U+2016 postfix, U+2016 postfix
#   \left\|x\right\| U+2225 prefix, U+2225 postfix
#   \lVert x\rVert   U+2016 prefix, U+2016 postfix
#   |x|              U+007C prefix, U+007C prefix
#   a\parallel b     U+2225 no form
#   MathML of \|x\|: <mrow><mo stretchy="false" form="postfix">U+2225</mo><mi>x</mi><mo stretchy="false" form="postfix">U+2225</mo></mrow>
#   without --mathml: <span class="math inline">U+2225<em>x</em>U+2225</span>
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
    return re.sub(r"[^\x00-\x7f]", lambda m: f"U+{ord(m[0]):04X}", page)


print("pandoc", pypandoc.get_pandoc_version())
for formula in (r"\|x\|", r"\Vert x\Vert", r"\left\|x\right\|", r"\lVert x\rVert", "|x|", r"a\parallel b"):
    bars = []
    for attributes, sign in re.findall("<mo([^>]*)>(.*?)</mo>", html(formula, "--mathml")):
        form = re.search('form="(.*?)"', attributes)
        bars.append(f"{sign if sign.startswith('U+') else f'U+{ord(sign):04X}'} {form[1] if form else 'no form'}")
    print(f"{formula:<16} {', '.join(bars)}")
print(r"MathML of \|x\|:", re.search("<mrow>.*</mrow>", html(r"\|x\|", "--mathml"))[0])
print("without --mathml:", re.search("<span.*</span>", html(r"\|x\|"))[0])
PY
cat seen
diff expected seen >&2 || changed "the output differs from the one in the header (< header, > now)"
echo "As described."
