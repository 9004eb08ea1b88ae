#!lua
-- Writes a lease as pending, before anything exists upstream.
-- key: lease
-- args: lease task agent instance owner issuer role provider access sensitivity scope handle revocation residual ends_use
--   human human_key human_proof
--   ttl_ms:number life_ms:number mint_ms:number shortest_ms:number renewable_until:number token_issued:number token_skew:number max_renewals:number
--   context_version obtained counts per_task:number max_live:number
--   max_leases:number idempotency idempotency_seconds supersedes freezable places places_limit:number over_at:number event
--   outbox_limit:number skew:number visibility:number approval approval_digest mark:integer
-- answer: 'ok', issued, expires, renewable until, mint until, what the tree obtained if it changed, claims of superseded leases,
--   where its event is
--   | 'quarantined' 'conflict' 'closed' 'not_found' 'ended' 'not_assigned' 'frozen' 'stale' 'quota' 'outbox_full' 'approval_invalid'
--   'renewals' 'token_not_fresh' 'human_not_fresh', detail
-- event: lease.reserved; lease.closing for what it supersedes
-- include: issue
return issue('p')
