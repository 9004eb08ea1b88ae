-- What a task has of the task above it: intent and how it was stated, its classification, confidence, sensitivity and environment. A child has them as its parent
-- does, or stricter where it was made so itself: `x:ca`, `x:co`, `x:en`. Nothing that is written to a child ever loosens it.
local STRICTNESS = { public = 0, internal = 1, confidential = 2, restricted = 3 }

local function inherited(above, own)
  local ca, co, en = above.ca, above.co, above.en
  local stricter = own['x:ca']
  if stricter and (STRICTNESS[stricter] or 3) > (STRICTNESS[ca] or 3) then ca = stricter end
  if own['x:co'] and tonumber(own['x:co']) < tonumber(co) then co = own['x:co'] end
  if own['x:en'] == 'unknown' then en = 'unknown' end
  return 'in', above['in'], 'si', above.si or '', 'cl', above.cl, 'co', co, 'ca', ca, 'en', en
end
