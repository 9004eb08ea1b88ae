-- include: clock
-- What a renewal needs besides a good decision: that the role lets this lease be renewed once more, and a workload token newer than the one
-- before and issued since; and where it rests on a token of a human's (`hp`), a newer one of theirs too. `rn` counts renewals, also through successors; `ti` is when the last token was issued; `la` is the last renewal
-- where there was one. The issuer's clock may be behind by `token_skew`.
-- Needs `token_issued`, `token_skew`, `max_renewals` and `human_proof`.
local function no_renewal(record)
  if max_renewals >= 0 and tonumber(record.rn or 0) >= max_renewals then return 'renewals' end
  if token_issued <= tonumber(record.ti or 0) then return 'token_not_fresh' end
  if token_issued <= tonumber(record.la or record.ia) - token_skew then return 'token_not_fresh' end
  if record.hp then
    if human_proof == '' then return 'human_not_fresh' end
    local shown = cjson.decode(human_proof).tokenIssuedAt
    if shown <= cjson.decode(record.hp).tokenIssuedAt or shown <= tonumber(record.la or record.ia) - token_skew then return 'human_not_fresh' end
  end
  return nil
end
