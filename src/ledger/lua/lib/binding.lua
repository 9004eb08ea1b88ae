-- Which running copies of an agent may act in a task: `*` any copy, `=<instance>` that copy, `?` the first copy that comes.

-- Answers whether this copy may, and the bindings if one was made.
local function split_binding(bindings, instance)
  if bindings == '*' then return true end
  local free
  for one in string.gmatch(bindings, '%S+') do
    if one == '*' or (instance ~= '' and one == '=' .. instance) then return true end
    if one == '?' then free = true end
  end
  if not free or instance == '' then return false end
  return true, (string.gsub(bindings, '%?', '=' .. string.gsub(instance, '%%', '%%%%'), 1))
end
