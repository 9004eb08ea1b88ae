-- Hashes as Lua tables. What a table holds is text, as Redis gives it.

-- The record at `key`, or nil.
local function read(key)
  local list = redis.call('HGETALL', key)
  if #list == 0 then return nil end
  local record = {}
  for i = 1, #list, 2 do record[list[i]] = list[i + 1] end
  return record
end

-- Writes fields into the hash and into its table.
local function write(key, record, ...)
  redis.call('HSET', key, ...)
  local changes = { ... }
  for i = 1, #changes, 2 do record[changes[i]] = tostring(changes[i + 1]) end
end

-- Removes a field from the hash and from its table.
local function erase(key, record, field)
  if record[field] then
    redis.call('HDEL', key, field)
    record[field] = nil
  end
end

-- How a record leaves a script: field, value, field, value.
local function flat(record)
  local list = {}
  for field, value in pairs(record) do
    list[#list + 1] = field
    list[#list + 1] = value
  end
  return list
end
