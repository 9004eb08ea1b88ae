-- include: clock
-- What a renewal needs besides a good decision: that the role lets this lease be renewed once more, and a workload token newer than the one
-- before and issued since. `rn` counts renewals, also through successors; `ti` is when the last token was issued; `la` is the last renewal
-- where there was one. The issuer's clock may be behind by `token_skew`.
-- Needs `token_issued`, `token_skew` and `max_renewals`.
local function no_renewal(record)
  if max_renewals >= 0 and tonumber(record.rn or 0) >= max_renewals then return 'renewals' end
  if token_issued <= tonumber(record.ti or 0) then return 'token_not_fresh' end
  if token_issued <= tonumber(record.la or record.ia) - token_skew then return 'token_not_fresh' end
  return nil
end
