#!lua flags=no-writes
-- How far an emergency is in the partition of the key and in those of `others`, together.
-- key: progress
-- args:
-- rest: others
-- answer: field, value, ...: counts are added up, of what is `over` the latest is told
-- event: none
local sums, names = {}, {}

local function add(progress)
  local fields = redis.call('HGETALL', progress)
  for i = 1, #fields, 2 do
    local name, value = fields[i], tonumber(fields[i + 1])
    if name ~= 'cursor' and value then
      if not sums[name] then
        names[#names + 1] = name
        sums[name] = value
      elseif string.sub(name, 1, 4) == 'over' then
        sums[name] = math.max(sums[name], value)
      else
        sums[name] = sums[name] + value
      end
    end
  end
end

add(KEYS[1])
for i = rest, #ARGV do add(ARGV[i]) end
local answer = {}
for _, name in ipairs(names) do
  answer[#answer + 1] = name
  answer[#answer + 1] = string.format('%.0f', sums[name])
end
return answer
