"""The questions that the views answer, as SQL.

Every statement gives first the position that its snapshot has reached, so that an answer at a position is never given from views
that do not know it yet. It builds text and runs nothing; the rows of an answer are read by `answers`.
"""

from pairing.events import device_stream, node_stream

from . import audit
from .spans import held, last_of
from .tokens import APPROVING

_REACHED = "(SELECT position FROM mark)"
_STREAM = "(SELECT id FROM words WHERE word = :stream)"
_TRUE = "({0}.to_position IS NULL OR {0}.to_position > :at)"
_DAMAGE = "(SELECT min(position) FROM damages x WHERE x.stream = {0}.stream AND x.position <= :at)"

_PENDING = f"""
SELECT {_REACHED}, r.request, w.word, r.key, r.need, r.name, r.platform, r.family, r.client_id, r.client_mode, r.role, r.roles,
       r.scopes, r.address, r.silent, r.repair, r.opened_at, r.expires_at, r.digest, r.from_position, {_DAMAGE.format("r")}
  FROM requests r JOIN words w ON w.id = r.stream
 WHERE {{0}} ORDER BY r.opened_at DESC, r.opened_position DESC"""  # noqa: S608
PENDING = _PENDING.format(f"r.from_position IN ({held('requests')})")
PENDING_OF = _PENDING.format(f"r.from_position = {last_of('requests', _STREAM)} AND {_TRUE.format('r')}")

_PAIRED = f"""
SELECT {_REACHED}, w.word, d.key, d.name, l.label, d.platform, d.family, d.client_id, d.client_mode, d.role, d.roles, d.scopes,
       d.address, d.means, d.created_at, d.approved_at, d.from_position, l.from_position, {_DAMAGE.format("d")},
       t.from_position, t.role, t.scopes, t.issue, t.created_at, t.rotated_at, t.revoked_at, t.under, t.expires_at, t.expired_at,
       t.handoff_until
  FROM devices d JOIN words w ON w.id = d.stream
  LEFT JOIN labels l ON l.from_position = {last_of("labels", "d.stream")}
  LEFT JOIN tokens t ON t.from_position IN (
       SELECT from_position FROM tokens WHERE stream = d.stream AND to_position IS NULL AND from_position <= :at
       UNION ALL SELECT from_position FROM tokens WHERE stream = d.stream AND to_position > :at AND from_position <= :at)
 WHERE {{0}} ORDER BY d.approved_at DESC, d.from_position DESC, t.role"""  # noqa: S608
PAIRED = _PAIRED.format(f"d.from_position IN ({held('devices')})")
PAIRED_OF = _PAIRED.format(f"d.from_position = {last_of('devices', _STREAM)} AND {_TRUE.format('d')}")

_LOCKS = f"""
SELECT {_REACHED}, w.word, k.locked_at, k.until, k.message, k.ban, k.reason, k.actor_kind, k.actor_id, l.label, d.name,
       d.stream IS NOT NULL, k.from_position
  FROM locks k JOIN words w ON w.id = k.stream
  LEFT JOIN labels l ON l.from_position = {last_of("labels", "k.stream")}
  LEFT JOIN devices d ON d.from_position = {last_of("devices", "k.stream")} AND {_TRUE.format("d")}
 WHERE {{0}} ORDER BY k.from_position DESC"""  # noqa: S608
LOCKS = _LOCKS.format(f"k.from_position IN ({held('locks')})")
LOCKS_OF = _LOCKS.format(f"k.from_position = {last_of('locks', _STREAM)} AND {_TRUE.format('k')}")

# What a timer asks every second: an index of ends leads to the few rows whose time has come.
LOCKS_OVER = f"""
SELECT DISTINCT {_REACHED}, w.word FROM locks k JOIN words w ON w.id = k.stream
 WHERE k.to_position IS NULL AND k.until IS NOT NULL AND k.until <= :now ORDER BY k.until LIMIT :most"""  # noqa: S608
_DUE = f"""
SELECT {_REACHED}, w.word, t.role, t.issue, ifnull(t.rotated_at, t.created_at), t.expires_at, t.warned, l.label, d.name,
       t.from_position
  FROM tokens t JOIN words w ON w.id = t.stream
  LEFT JOIN labels l ON l.from_position = {last_of("labels", "t.stream")}
  LEFT JOIN devices d ON d.from_position = {last_of("devices", "t.stream")}
 WHERE t.to_position IS NULL AND t.expires_at IS NOT NULL AND t.revoked_at IS NULL AND t.expired_at IS NULL
   AND t.expires_at > :after AND t.expires_at <= :until {{0}} ORDER BY t.expires_at, t.from_position LIMIT :most"""  # noqa: S608
DUE = _DUE.format("")
DUE_OF = _DUE.format(f"AND t.stream = {_STREAM}")

# A walk over all tokens, so many positions a step: whether one is in use is not known here, and no index can say it.
AGED = f"""
SELECT {_REACHED}, w.word, t.role, t.issue, ifnull(t.rotated_at, t.created_at), t.expires_at, t.warned, NULL, NULL,
       t.from_position
  FROM tokens t JOIN words w ON w.id = t.stream
 WHERE t.from_position > :after AND t.from_position <= :until AND t.to_position IS NULL AND t.revoked_at IS NULL
   AND t.expired_at IS NULL AND t.role = :role AND ifnull(t.rotated_at, t.created_at) <= :before
 ORDER BY t.from_position"""  # noqa: S608

_NODE_REQUESTS = f"""
SELECT {_REACHED}, w.word, n.request, n.caps, n.commands, n.name, n.address, n.platform, n.family, n.model, n.version,
       n.core_version, n.ui_version, n.silent, n.repair, n.asked_at, n.from_position
  FROM node_requests n JOIN words w ON w.id = n.stream
 WHERE {{0}} ORDER BY n.from_position DESC"""  # noqa: S608
NODE_REQUESTS = _NODE_REQUESTS.format(f"n.from_position IN ({held('node_requests')})")
NODE_REQUESTS_OF = _NODE_REQUESTS.format(f"n.from_position = {last_of('node_requests', _STREAM)} AND {_TRUE.format('n')}")

_NODES = f"""
SELECT {_REACHED}, w.word, n.request, n.caps, n.commands, n.name, n.label, n.address, n.platform, n.family, n.model, n.version,
       n.core_version, n.ui_version, n.created_at, n.approved_at, n.from_position
  FROM nodes n JOIN words w ON w.id = n.stream
 WHERE {{0}} ORDER BY n.approved_at DESC, n.from_position DESC"""  # noqa: S608
NODES = _NODES.format(f"n.from_position IN ({held('nodes')})")
NODES_OF = _NODES.format(f"n.from_position = {last_of('nodes', _STREAM)} AND {_TRUE.format('n')}")

# All uses of one code come together, each holder in a row of its own; a code without holders in one.
_ENROLMENTS = f"""
SELECT {_REACHED}, c.from_position, c.code, c.profile, c.roles, c.scopes, c.uses, c.approves, c.label, c.actor_kind, c.actor_id,
       c.issued_at, c.expires_at, c.revoked_at, c.expired_at, c.overuses,
       h.from_position, h.device, h.roles, h.bound_at, h.redeemed_at, h.delivered_at, h.acknowledged_at
  FROM enrolments c
  LEFT JOIN holders h ON h.from_position IN (
       SELECT from_position FROM holders WHERE stream = c.stream AND to_position IS NULL AND from_position <= :at
       UNION ALL SELECT from_position FROM holders WHERE stream = c.stream AND to_position > :at AND from_position <= :at)
 WHERE {{0}} ORDER BY c.issued_at DESC, c.stream DESC, h.bound_at, h.device"""  # noqa: S608
ENROLMENTS = _ENROLMENTS.format(f"c.from_position IN ({held('enrolments')})")
ENROLMENTS_OF = _ENROLMENTS.format(f"c.from_position = {last_of('enrolments', _STREAM)} AND {_TRUE.format('c')}")

OVERDUE_CODES = f"""
SELECT {_REACHED}, c.code FROM enrolments c
 WHERE c.to_position IS NULL AND c.revoked_at IS NULL AND c.expired_at IS NULL AND c.expires_at < :now
   AND c.redeemed < c.uses
 ORDER BY c.expires_at, c.from_position"""  # noqa: S608

NODE_OF = f"""
SELECT {_REACHED}, w.word FROM node_requests n JOIN words w ON w.id = n.stream
 WHERE n.request = :request ORDER BY n.from_position DESC LIMIT 1"""  # noqa: S608

FATE = f"""
SELECT {_REACHED}, r.request, w.word, r.outcome, ifnull(r.ended_at, r.opened_at),
       CASE WHEN r.outcome IS NULL THEN r.opened_position ELSE r.to_position END, r.actor_kind, r.actor_id, r.by
  FROM requests r JOIN words w ON w.id = r.stream
 WHERE r.request = :request ORDER BY r.from_position DESC LIMIT 1"""  # noqa: S608

_KNOWN = "EXISTS (SELECT 1 FROM events e WHERE e.stream = w.id AND e.position <= :at)"
# A full id means its device alone; else a label may mean as many devices as bear it, and a prefix as many as begin with it.
MATCHES = f"""
WITH exact AS (SELECT id FROM words w WHERE word = :exact AND {_KNOWN}),
     begun AS (SELECT id FROM words w WHERE word >= :low AND word < :high AND {_KNOWN} ORDER BY word LIMIT :most),
     named AS (SELECT stream FROM labels WHERE folded = :folded AND from_position <= :at
                  AND (to_position IS NULL OR to_position > :at) LIMIT :most),
     found AS (SELECT id FROM exact
               UNION SELECT id FROM begun WHERE NOT EXISTS (SELECT 1 FROM exact)
               UNION SELECT stream FROM named WHERE NOT EXISTS (SELECT 1 FROM exact))
SELECT {_REACHED}, w.word, d.name, r.name, l.label, d.stream IS NOT NULL, r.stream IS NOT NULL
  FROM found JOIN words w ON w.id = found.id
  LEFT JOIN labels l ON l.from_position = {last_of("labels", "w.id")}
  LEFT JOIN devices d ON d.from_position = {last_of("devices", "w.id")} AND {_TRUE.format("d")}
  LEFT JOIN requests r ON r.from_position = {last_of("requests", "w.id")} AND {_TRUE.format("r")}
 ORDER BY w.word LIMIT :most"""  # noqa: S608

HOOKS = f"""
SELECT {_REACHED}, w.word FROM events e JOIN words w ON w.id = e.stream
 WHERE e.kind = (SELECT id FROM words WHERE word = :kind) ORDER BY e.position"""  # noqa: S608

OVERDUE = f"""
SELECT {_REACHED}, w.word, r.request FROM requests r JOIN words w ON w.id = r.stream
 WHERE r.to_position IS NULL AND r.expires_at < :now ORDER BY r.expires_at, r.from_position"""  # noqa: S608

APPROVERS = f"""
SELECT {_REACHED}, w.word
  FROM (SELECT stream FROM tokens INDEXED BY tokens_approving
         WHERE {APPROVING} AND stream IS NOT {_STREAM} AND (under IS NULL OR under = :under)
         ORDER BY from_position DESC LIMIT :most OFFSET :skip) t
  JOIN words w ON w.id = t.stream"""  # noqa: S608
HANDED_OVER = f"""
SELECT {_REACHED}, w.word, t.role, t.issue, t.predecessor, t.rotated_at, t.handoff_until
  FROM tokens t JOIN words w ON w.id = t.stream
 WHERE t.to_position IS NULL AND t.handoff_until IS NOT NULL ORDER BY t.handoff_until, t.from_position"""  # noqa: S608

CROWD = f"""
SELECT {_REACHED}, (SELECT count(*) FROM requests WHERE to_position IS NULL AND address IS :address),
       (SELECT pending FROM mark)"""  # noqa: S608

# Positions have no gaps and times never go back along them, so that halving finds the place without an index.
POSITION_AT = f"""
WITH RECURSIVE cut (low, high) AS (
    SELECT 0, (SELECT position FROM mark)
    UNION ALL
    SELECT CASE WHEN e.recorded_at <= :time THEN e.position ELSE low END,
           CASE WHEN e.recorded_at <= :time THEN high ELSE e.position - 1 END
      FROM cut JOIN events e ON e.position = (low + high + 1) / 2 WHERE low < high)
SELECT {_REACHED}, low FROM cut WHERE low = high"""  # noqa: S608

# Where a damaged log has gaps.
POSITION_BY_LOOKING = f"""
SELECT {_REACHED}, ifnull(max(position), 0) FROM events WHERE recorded_at <= :time"""  # noqa: S608

CALLED = f"""
SELECT {_REACHED}, w.word, ifnull(l.label, ifnull(d.name, r.name))
  FROM json_each(:streams) s JOIN words w ON w.word = s.value
  LEFT JOIN labels l ON l.from_position = {last_of("labels", "w.id")}
  LEFT JOIN devices d ON d.from_position = {last_of("devices", "w.id")}
  LEFT JOIN requests r ON r.from_position = {last_of("requests", "w.id")}
 WHERE ifnull(l.label, ifnull(d.name, r.name)) IS NOT NULL"""  # noqa: S608

ACTED = f"""
SELECT {_REACHED}, e.position, e.address IS NOT NULL, k.word IN ({audit.OTHERS})
  FROM events e JOIN words k ON k.id = e.kind
 WHERE e.actor IN ({audit.ACTORS.format(":stream")})
   AND e.position < :below AND e.stream NOT IN (SELECT id FROM words WHERE word IN (:stream, :node))
 ORDER BY e.position"""  # noqa: S608
ISSUED = f"""
SELECT {_REACHED}, t.from_position, w.word, t.role, t.issue FROM tokens t JOIN words w ON w.id = t.stream
 WHERE t.from_position > :after ORDER BY t.from_position LIMIT :most"""  # noqa: S608

# The first event of each device in a stretch of the log; a node's stream is its device's as well.
TOUCHED = f"""
SELECT {_REACHED}, e.position, w.word FROM events e JOIN words w ON w.id = e.stream
 WHERE e.position > :after AND e.position <= :end AND (w.word GLOB '{device_stream("*")}' OR w.word GLOB '{node_stream("*")}')
   AND NOT EXISTS (SELECT 1 FROM events x WHERE x.stream = e.stream AND x.position > :start AND x.position < e.position)
   AND NOT EXISTS (
       SELECT 1 FROM events x WHERE x.position > :start AND x.position < e.position AND x.stream = (
           SELECT id FROM words WHERE word = CASE WHEN w.word GLOB '{device_stream("*")}'
               THEN '{node_stream("")}' || substr(w.word, {len(device_stream("")) + 1})
               ELSE '{device_stream("")}' || substr(w.word, {len(node_stream("")) + 1}) END))
 ORDER BY e.position LIMIT :most"""  # noqa: S608

# The streams of devices that have events of some kinds, by the latest of these.
TOUCHED_BY = f"""
SELECT {_REACHED}, max(e.position) AS latest, w.word
  FROM words k CROSS JOIN events e ON e.kind = k.id AND e.position > :after JOIN words w ON w.id = e.stream
 WHERE k.word IN (SELECT value FROM json_each(:kinds)) AND w.word GLOB '{device_stream("*")}'
 GROUP BY e.stream ORDER BY latest DESC LIMIT :most"""  # noqa: S608

TIME_AT = f"SELECT {_REACHED}, recorded_at FROM events WHERE position = :place"  # noqa: S608

LAST = """
SELECT version, position FROM events WHERE stream = (SELECT id FROM words WHERE word = :stream) ORDER BY version DESC LIMIT 1"""
SINCE = f"""
SELECT {_REACHED}, w.word FROM (SELECT DISTINCT stream FROM events WHERE position > :after) t JOIN words w ON w.id = t.stream
"""  # noqa: S608
DAMAGED = f"""
SELECT {_REACHED}, w.word, x.position, x.why FROM damages x JOIN words w ON w.id = x.stream ORDER BY x.position"""  # noqa: S608
