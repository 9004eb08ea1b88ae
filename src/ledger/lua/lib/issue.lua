-- include: clock event freeze close over places approval renewal binding obtained
-- Writes a new lease, after every check; grant.lua and reserve.lua differ in the state that it begins in.
local SUPERSEDED = 'superseded'

-- How many leases of a role the envelope of a task allows, ever; nil: as many as may be.
local function most_of(task_key, role)
  for _, entry in ipairs(cjson.decode(redis.call('HGET', task_key, 'ev'))) do
    if entry.role == role then return entry.maxLeases end
  end
end

-- What makes up the record of a new lease. Apart, because a function of Lua's takes 60 arguments of its script at most.
local function record_of(state, orchestrator, of_task, expires, renewable, mint_until, usable, cv, renewals)
  local fields = { 's', state, 't', task, 'a', agent, 'o', owner, 'is', issuer, 'or', orchestrator, 'ro', role, 'pr', provider, 'ac', access, 'se',
    sensitivity, 'ha', handle, 'rv', revocation, 'rs', residual, 'ia', now, 'xa', expires, 'ru', renewable, 'mu', mint_until, 'cv', cv }
  local n = #fields
  if instance ~= '' then fields[n + 1], fields[n + 2], n = 'i', instance, n + 2 end
  local behalf = human ~= '' and human or of_task
  if behalf then fields[n + 1], fields[n + 2], n = 'h', behalf, n + 2 end
  if human_key ~= '' then fields[n + 1], fields[n + 2], n = 'hk', human_key, n + 2 end
  if human_proof ~= '' then fields[n + 1], fields[n + 2], n = 'hp', human_proof, n + 2 end
  if scope ~= '' then fields[n + 1], fields[n + 2], n = 'sc', scope, n + 2 end
  if ends_use == '1' then fields[n + 1], fields[n + 2], n = 'xe', '1', n + 2 end
  if usable then fields[n + 1], fields[n + 2], n = 'uu', usable, n + 2 end
  if state == 'a' then fields[n + 1], fields[n + 2], n = 'sn', 0, n + 2 end
  if token_issued > 0 then fields[n + 1], fields[n + 2], n = 'ti', token_issued, n + 2 end
  if renewals > 0 then fields[n + 1], fields[n + 2], n = 'rn', renewals, n + 2 end
  return fields
end

local function issue(state)
  -- A lost reply is asked for again: the same id has the same answer.
  local known = redis.call('HMGET', KEYS[1], 't', 'a', 'ia', 'xa', 'ru', 'mu', 'wd')
  if known[1] then
    if known[1] ~= task or known[2] ~= agent then return { 'conflict' } end
    if known[7] then return { 'quota', 'leases of this agent' } end
    return { 'ok', tonumber(known[3]), tonumber(known[4]), tonumber(known[5]), tonumber(known[6]), '', {}, '' }
  end

  -- Before anything is read: what an older Redis says of the task is not worth repeating.
  local is_barred, any_frozen = barred()
  if is_barred then return { 'quarantined' } end
  local task_key = base .. 'task:' .. task
  local count_field = 'c:' .. access
  local live_field = 'L:' .. agent
  local role_field = 'R:' .. role
  local record = redis.call('HMGET', task_key, 's', 'an', 'rt', 'dl', 'A:' .. agent, 'fz', 'or', 'hu', role_field, 'cv', 'ob', count_field,
    live_field, 'ec')
  if not record[1] then return { 'not_found' } end
  if record[1] ~= 'active' then return { 'ended', record[1] } end
  local deadline = tonumber(record[4])
  if now >= deadline then return { 'ended', 'expired' } end
  local root_key, cv, ob, count, live = task_key, record[10], record[11], record[12], record[13]
  local counting = {}
  if record[3] ~= task then
    root_key = base .. 'task:' .. record[3]
    for id in string.gmatch(record[2], '%S+') do
      local above = redis.call('HGET', base .. 'task:' .. id, 's')
      if above ~= 'active' then return { 'ended', above or 'revoked' } end
      -- Who limits how many leases of a role there are limits it for all below it; and what is below then has a limit too.
      if max_leases >= 0 then
        local most = most_of(base .. 'task:' .. id, role)
        if most then counting[#counting + 1] = { base .. 'task:' .. id, most } end
      end
    end
    local root = redis.call('HMGET', root_key, 'ob', count_field, live_field)
    ob, count, live = root[1], root[2], root[3]
  end

  local may, bindings = false, nil
  if record[5] then may, bindings = split_binding(record[5], instance) end
  if not may then return { 'not_assigned' } end

  if any_frozen then
    local by = frozen(tokens_in(freezable, record[6]))
    if by then return { 'frozen', by } end
  end

  if cv ~= context_version or (ob or '') ~= obtained then return { 'stale' } end
  -- A task that is for somebody is for nobody else.
  if record[8] and human ~= '' and human ~= record[8] then return { 'stale' } end
  if counts ~= '' then
    local got = redis.call('HMGET', root_key, 'c:read', 'c:write', 'c:escalate')
    if counts ~= (got[1] or '0') .. ',' .. (got[2] or '0') .. ',' .. (got[3] or '0') then return { 'stale' } end
  end

  local consent, no_consent
  if approval ~= '' then
    consent, no_consent = usable_approval(approval, approval_digest, task, agent)
    if not consent then return { 'approval_invalid', no_consent } end
  end

  -- What this lease takes the place of does not count against it.
  local replaced, freed, renewals = {}, 0, 0
  if supersedes ~= '' then
    local old = read(base .. 'lease:' .. supersedes)
    -- A renewal comes before the end of what it renews: what has expired is only not swept yet.
    if not old or old.a ~= agent or old.t ~= task or not is_live(old) or now >= tonumber(old.xa) then return { 'closed' } end
    local no = no_renewal(old)
    if no then return { no } end
    renewals = tonumber(old.rn or 0) + 1
    replaced[1] = { supersedes, old }
    freed = 1
  end
  if idempotency ~= '' then
    local first = redis.call('GET', base .. 'idem:' .. idempotency)
    if first and first ~= supersedes then
      local old = read(base .. 'lease:' .. first)
      if old and old.a == agent and is_live(old) then
        replaced[#replaced + 1] = { first, old }
        if old.t == task then freed = freed + 1 end
      end
    end
  end
  if per_task > 0 and redis.call('SCARD', task_key .. ':live') + redis.call('SCARD', task_key .. ':closing') - freed >= per_task then
    return { 'quota', 'live leases of the task' }
  end
  if max_live >= 0 and tonumber(live or 0) - freed >= max_live then return { 'quota', 'live leases of this agent in the tree' } end
  if max_leases >= 0 and tonumber(record[9] or 0) >= max_leases then return { 'quota', 'leases of this role in the task' } end
  for _, one in ipairs(counting) do
    if tonumber(redis.call('HGET', one[1], role_field) or 0) >= one[2] then return { 'quota', 'leases of this role above the task' } end
  end
  if outbox_full(outbox_limit) then return { 'outbox_full' } end
  -- `places` is the agent's set where it is in this partition; where it is in another, its own script is asked at the same time.
  if places ~= '' then
    local instead = {}
    for i, old in ipairs(replaced) do instead[i] = old[1] end
    if not has_place(places, lease, places_limit, instead) then return { 'quota', 'live leases of the agent' } end
  end

  local renewable = math.min(now + life_ms, deadline)
  if renewable_until > 0 then renewable = math.min(renewable, renewable_until) end
  if renewable <= now then return { 'ended', 'nothing is left of the longest life of the lease that it renews' } end
  local expires = math.min(now + ttl_ms, renewable)
  local mint_until = now + mint_ms
  -- The worst that the upstream may make of it, until the mint says better.
  local usable = shortest_ms > 0 and mint_until + shortest_ms > expires and mint_until + shortest_ms or nil

  -- From here on only writes.
  redis.call('HSET', KEYS[1], unpack(record_of(state, record[7], record[8], expires, renewable, mint_until, usable, cv, renewals)))
  if consent then
    redis.call('HSET', KEYS[1], 'ap', approval)
    bind_approval(approval, consent, lease)
  end
  redis.call('SADD', task_key .. ':live', lease)
  redis.call('ZADD', base .. 'due:' .. provider, due_at({ s = state, mu = mint_until, xa = expires, uu = usable, xe = ends_use == '1' }), lease)
  redis.call('SADD', base .. 'providers', provider)
  if places ~= '' then redis.call('ZADD', places, over_at, lease) end

  local changed = obtained_with(ob or '', access .. ':' .. sensitivity) or ''
  local root_fields = { count_field, tonumber(count or 0) + 1, live_field, tonumber(live or 0) + 1 }
  if changed ~= '' then root_fields[5], root_fields[6] = 'ob', changed end
  redis.call('HSET', root_key, unpack(root_fields))
  if max_leases >= 0 then redis.call('HINCRBY', task_key, role_field, 1) end
  for _, one in ipairs(counting) do redis.call('HINCRBY', one[1], role_field, 1) end
  if bindings then redis.call('HSET', task_key, 'A:' .. agent, bindings) end

  local told_at = tell(state == 'a' and 'lease.issued' or 'lease.reserved', event, 'expires', expires, unpack(usable and { 'usable', usable } or {}))
  if consent and state == 'a' then spend_approval(approval, consent, lease, event) end
  local claims = {}
  for i, old in ipairs(replaced) do
    close_lease(old[1], old[2], SUPERSEDED, event, true)
    claims[i] = take(old[1], old[2])
  end
  -- No longer than the lease may live: a repeat has nothing to close after that, and each fresh key of a caller's is a key of Redis's.
  if idempotency ~= '' then
    redis.call('SET', base .. 'idem:' .. idempotency, lease, 'PX', math.min(idempotency_seconds * 1000, renewable - now + skew))
  end
  return { 'ok', now, expires, renewable, mint_until, changed, claims, told_at }
end
