"""Event-sourced device pairing.

Read in this order, each module importing only from those before it:
`events`, `commands`, `refusals` (the three vocabularies); `authority` (who may do what to whom);
`sentences` (events in words); `device`, `evolve`, `standing`, `shortfall`, `policy`, `permits`, `locks`, `aging`,
`granting`, `knocking`, `answering`, `decide`, `verdict` (the pure heart);
`identity`, `tokens` (keys);
`log` (the one truth); `streams`, `guards`, `crossing`, `desk` (where decisions meet the log);
`listing`, `service`, `methods`, `settings`;
`machine`, `certificate` (what an operator watches); then `gateway` and `client`.
"""
