-- What a task tree obtained: "access:sensitivity", sorted, separated by commas.

-- The same with one more, or nil where that is in it already.
local function obtained_with(all, tag)
  if string.find(',' .. all .. ',', ',' .. tag .. ',', 1, true) then return nil end
  local tags = { tag }
  for one in string.gmatch(all, '[^,]+') do tags[#tags + 1] = one end
  table.sort(tags)
  return table.concat(tags, ',')
end
