#!lua flags=no-writes
-- Where this partition stands, for who remembers where it stood.
-- key: freezes
-- args:
-- answer: last event or '', mark or '', ids of the freezes of a quarantine or ''
-- event: none
-- include: standing
return standing()
