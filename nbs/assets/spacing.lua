-- What TeX knows about spacing and MathML does not, in HTML only. TeX sets a thin space beside the name of a function:
-- log p, not logp.
local names = { "log", "exp", "sin", "cos", "tan", "cot", "det", "dim", "arg", "min", "max" }
local relations = { le = 1, ge = 1, sim = 1, cdot = 1, to = 1, quad = 1, qquad = 1, propto = 1, approx = 1, ["in"] = 1,
                    Big = 1, big = 1, left = 1, times = 1, equiv = 1, mid = 1, pm = 1, mapsto = 1 }

local function after(rest)
  local char = rest:match("^%s*(.)") or ""
  local command = rest:match("^%s*\\(%a+)")
  return char:match("%w") ~= nil or (command ~= nil and relations[command] == nil)
end

local function before(done)
  local command = done:match("\\(%a+)%s*$")
  if command then return relations[command] == nil end
  return done:match("[%w%)}]%s*$") ~= nil
end

local function spaced(text)
  for _, name in ipairs(names) do
    local done, rest = "", text
    while true do
      local first, last = rest:find("\\" .. name .. "%f[%A]")
      if not first then break end
      done, rest = done .. rest:sub(1, first - 1), rest:sub(last + 1)
      done = done .. (before(done) and "\\," or "") .. "\\" .. name
      if after(rest) then rest = "\\," .. rest end
    end
    text = done .. rest
  end
  return text
end

-- Of a norm's two bars MathML has to know which opens and which closes. Bars between thin spaces divide, as in KL(q || p).
local function norms(text)
  local done, rest, open = "", text, false
  while true do
    local first, last = rest:find("\\|", 1, true)
    if not first then return done .. rest end
    local divides = (done .. rest:sub(1, first - 1)):match("\\[,;]$") or rest:sub(last + 1):match("^\\[,;]")
    local bar = divides and "\\|" or (open and "\\rVert " or "\\lVert ")
    if not divides then open = not open end
    done, rest = done .. rest:sub(1, first - 1) .. bar, rest:sub(last + 1)
  end
end

function Math(math)
  if FORMAT:match("html") then
    math.text = norms(spaced(math.text))
    return math
  end
end
