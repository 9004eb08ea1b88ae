#!lua
-- Counts things that agents of one partition did, and what each says of how its agent behaves. Of each: the agent's hash, a digest that is equal
-- for equal requests, how often, 1 where it was granted, how many refusals, 1 where it is no step of a script unless the first of its names is
-- known, the access obtained, the event, and how many names follow: what it asked for, and known from now on where it was granted.
-- What is counted here only ever grows by what the agent itself did; nothing that it sends can make it less, and no key of it grows for ever.
-- key: events
-- args: half_life:number rate_limit:number rate_window:number rate_points:number rate_most:number loop_limit:number loop_window:number
--   loop_points:number loop_most:number refused_points:number refused_most:number novelty_points:number novelty_most:number learn:number
--   memory:number drift_points:number drift_most:number outbox_limit:number
-- rest: acts
-- answer: of each act: level before, level now, reads, writes and escalations of the last hour, signals that were raised, with commas
-- event: agent.risk where the level rose, or is another than was told; and for every drift
-- include: risk event
local MOST_ASKED = 100
local MOST_KNOWN = 200
local function count_act(key, digest, times, granted, refused, off_script, obtained, event, names)
  local asked, known = key .. ':asked', key .. ':known'

  local record = read(key) or {}
  local points, sum = points_of(record)
  local before = level_of(risk_of(record, sum))
  local since = tonumber(record.si or now)
  local raised = {}

  local function raise(signal, by, most)
    if by <= 0 then return end
    points[signal] = math.max(points[signal], math.min(most, points[signal] + by))
    raised[#raised + 1] = signal
  end

  -- Machine speed: each time that it has used up what a window allows.
  local window, count = tonumber(record.ws or 0), tonumber(record.wn or 0)
  if now - window >= rate_window then
    window, count = now, 0
  end
  raise('rate', rate_points * (math.floor((count + times) / rate_limit) - math.floor(count / rate_limit)), rate_most)
  count = count + times

  -- A loop: the same again and again. Where there is no more place for what was asked, anything of it goes.
  local repeated = redis.call('HINCRBY', asked, digest, times)
  if repeated == times then
    if redis.call('HLEN', asked) > MOST_ASKED then redis.call('HDEL', asked, redis.call('HRANDFIELD', asked)) end
    if redis.call('PTTL', asked) < 0 then redis.call('PEXPIRE', asked, loop_window) end
  end
  raise('loop', loop_points * (math.floor(repeated / loop_limit) - math.floor((repeated - times) / loop_limit)), loop_most)

  raise('refused', refused_points * refused, refused_most)

  -- What it never asked for before; an agent that is new is learned first.
  local new, first_is_new = {}, false
  if #names > 0 then
    for i, seen in ipairs(redis.call('ZMSCORE', known, unpack(names))) do
      if not seen or tonumber(seen) < now - memory then
        new[#new + 1] = names[i]
        if i == 1 then first_is_new = true end
      end
      -- Not at each request: that it is known is what matters, not to the minute since when.
      if granted and (not seen or tonumber(seen) < now - memory / 10) then
        redis.call('ZADD', known, now, names[i])
        redis.call('ZREMRANGEBYRANK', known, 0, -MOST_KNOWN - 1)
        redis.call('PEXPIRE', known, memory)
      end
    end
  end
  local learned = now - since >= learn
  if learned then raise('novelty', novelty_points * #new, novelty_most) end
  -- What was not granted was never meant for it; what was granted may be what it was set up for.
  local drifts = off_script and first_is_new and (learned or not granted)
  if drifts then
    raise('drift', drift_points, drift_most)
  end

  local fields = { 'at', now, 'si', since, 'ws', window, 'wn', count }
  local function set(field, value)
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  if drifts then set('dr', now) end
  if obtained ~= '' then
    local slot = math.floor(now / SLOT_MS)
    local field = 'o' .. slot % SLOTS
    local number, reads, writes, escalations = string.match(record[field] or '', '^(%d+) (%d+) (%d+) (%d+)$')
    local counts = { read = 0, write = 0, escalate = 0 }
    if tonumber(number) == slot then
      counts = { read = reads, write = writes, escalate = escalations }
    end
    counts[obtained] = counts[obtained] + times
    set(field, string.format('%d %d %d %d', slot, counts.read, counts.write, counts.escalate))
  end

  sum = 0
  for _, signal in ipairs(SIGNALS) do
    sum = sum + points[signal]
    if points[signal] > 0 or record['p:' .. signal] then set('p:' .. signal, string.format('%.3f', points[signal])) end
  end
  local level = level_of(risk_of(record, sum))
  local told = tonumber(record.lv or 0)
  local why = table.concat(raised, ',')
  -- Where the outbox is full it stays news, for whoever counts next.
  local is_news = level > before or level ~= told or drifts
  if is_news and not outbox_full(outbox_limit) then
    tell('agent.risk', event, 'from', level > before and before or told, 'to', level, 'why', why)
    set('lv', level)
  end
  write(key, record, unpack(fields))
  if record.fl and not record.fu then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIRE', key, math.max(memory, tonumber(record.fu or now) - now))
  end
  local recent = obtained_of(record)
  return { before, level, recent[1], recent[2], recent[3], why }
end

-- All of them are read before the first is counted.
local OBTAINED = { [''] = true, read = true, write = true, escalate = true }
local acts, i = {}, rest
while i <= #ARGV do
  local hash, digest, times, granted, refused, off_script, obtained, event, count = unpack(ARGV, i, i + 8)
  local last = i + 8 + (tonumber(count) or 0 / 0)
  if not (tonumber(times) and tonumber(refused) and OBTAINED[obtained] and last >= i + 8 and last <= #ARGV and last % 1 == 0) then
    return redis.error_reply('ERR what an agent did cannot be read')
  end
  acts[#acts + 1] = { base .. 'agent:' .. hash .. ':risk', digest, tonumber(times), granted == '1', tonumber(refused), off_script == '1', obtained, event,
    { unpack(ARGV, i + 9, last) } }
  i = last + 1
end
local answers = {}
for n, act in ipairs(acts) do answers[n] = count_act(unpack(act, 1, 9)) end
return answers
