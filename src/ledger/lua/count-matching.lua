#!lua flags=no-writes
-- One page of what a selector covers in this partition, changing nothing.
-- key: providers
-- args: selector size:integer cursor
-- answer: next cursor or 'done', provider, leases, when the last of them stops working by itself, ...
-- event: none
-- include: match over
local wanted = cjson.decode(selector)
local counts = {}
local fields = fields_for(wanted)
local ids, next_cursor = page_of(cursor, size, wanted)
for _, lease in ipairs(ids) do
  local record = read_matching(base .. 'lease:' .. lease, wanted, fields, 'none')
  if record and record.s ~= 'r' and record.s ~= 'e' then
    local count = counts[record.pr] or { 0, 0 }
    counts[record.pr] = { count[1] + 1, math.max(count[2], usable_until(record)) }
  end
end
local answer = { next_cursor }
for provider, count in pairs(counts) do
  answer[#answer + 1] = provider
  answer[#answer + 1] = count[1]
  answer[#answer + 1] = count[2]
end
return answer
