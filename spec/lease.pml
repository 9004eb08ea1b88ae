/*
 * The life of leases of one task, as the scripts of src/ledger/lua move them: reserve, activate, end-task, freeze, close, claim, settle. Brokers
 * die between any two steps, replies are lost, mints arrive late, a paused broker wakes up with an old claim.
 *
 * Each script is one atomic step here as it is in Redis. Time is what it is to the ledger: whether `mint_until` has passed, and whether a claim's
 * visibility has. An upstream honours `mint_until`, so a mint that has not arrived by then never does.
 *
 * What must hold (the numbers are those of the promises in ARCHITECTURE.md):
 *   1  once an end is acknowledged nothing becomes active, and in the end nothing exists upstream
 *   2  whatever exists upstream has a record that is not settled
 *   3  a lease settles only when its credential is gone and can no longer appear; and each that closes does settle
 *   9  once a freeze is acknowledged nothing becomes active
 *
 * spec/check.sh checks it, and then once more with each defect that it must find:
 *   NO_RECHECK    activate believes what reserve saw of the task
 *   NO_FREEZE     activate believes what reserve saw of freezes
 *   EAGER_ABSENT  "absent" settles a lease before mint_until too
 *   MINT_FIRST    the credential exists before the lease is written
 *   GIVE_UP       a failed revoke settles the lease
 *   NO_REARM      what an end could not close in its own step is nobody's work
 *
 * One lease is enough: leases touch each other in what they count for alone, which is none of these. LEASES=2 checks it at a price.
 */
#ifndef LEASES
#define LEASES 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FAILURES
#define FAILURES 1
#endif

mtype = { none, pending, issued, closing, settled };

/* The ledger. */
mtype lease[LEASES] = none;
byte attempt[LEASES];         /* `n`, modulo 4: no more than three are ever told apart */
bool claimed[LEASES];         /* somebody holds it, and its visibility has not passed */
bool ended = false;
bool frozen = false;

/* Time. */
bool late[LEASES];            /* mint_until has passed */

/* The upstream. */
bool exists[LEASES];
bool underway[LEASES];        /* a mint was sent and may arrive yet */

/* What was told to callers. */
bool end_acknowledged = false;
bool freeze_acknowledged = false;

byte crashes = 0;
byte failures = 0;

#define LIVE(i)     (lease[i] == pending || lease[i] == issued)
#if defined(NO_RECHECK)
#define OVER_NOW frozen
#elif defined(NO_FREEZE)
#define OVER_NOW ended
#else
#define OVER_NOW (ended || frozen)
#endif
/* Is what an end left over still due? */
#ifdef NO_REARM
#define LEFT false
#else
#define LEFT ended
#endif
#define RECORDED(i) (LIVE(i) || lease[i] == closing)

inline close(i) {
  lease[i] = closing;
  claimed[i] = false
}

/* A claim: counted, and held until its visibility passes. What an attempt that begins after mint_until finds absent is so for good (`sn`). */
inline take(i) {
  attempt[i] = (attempt[i] + 1) % 4;
  claimed[i] = true;
  mine = attempt[i];
  proof = late[i];
  took = true
}

inline settle(i) {
  assert(!exists[i]);                   /* 3 */
  assert(!underway[i] || late[i]);      /* 3: nor can it appear */
  lease[i] = settled;
  claimed[i] = false
}

/* Comes due again; only the current attempt may say so. */
inline again(i) {
  if
  :: mine == attempt[i] -> claimed[i] = false
  :: mine != attempt[i]
  fi
}

/* The mirrored path, from a claim to its settlement; it may die anywhere, or be so slow that its claim has passed to another. */
inline revoke(i) {
  do
  :: crashes < CRASHES -> crashes++; goto gone
  :: failures < FAILURES ->
     failures++;
     result = 0;
     break
  :: atomic { exists[i] -> exists[i] = false; result = 1; break }
  :: atomic { !exists[i] -> result = 2; break }
  od;
  if
  :: crashes < CRASHES -> crashes++; goto gone
  :: skip
  fi;
  atomic {
    if
    :: lease[i] != closing
    :: lease[i] == closing && result == 1 -> settle(i)
#ifdef EAGER_ABSENT
    :: lease[i] == closing && result == 2 -> settle(i)
#else
    :: lease[i] == closing && result == 2 && proof -> settle(i)
    :: lease[i] == closing && result == 2 && !proof -> again(i)
#endif
#ifdef GIVE_UP
    :: lease[i] == closing && result == 0 -> settle(i)
#else
    :: lease[i] == closing && result == 0 -> again(i)
#endif
    fi
  }
}

inline activate(i) {
  assert(!end_acknowledged);            /* 1 */
  assert(!freeze_acknowledged);         /* 9 */
  lease[i] = issued
}

/* The forward path: reserve, mint, activate; whatever fails closes the lease, unless the broker dies. */
proctype Issue(byte i) {
  byte mine = 0;
  byte result = 0;
  bool proof = false;
  bool took = false;
  bool answered = false;
  bool refused = false;
#ifdef MINT_FIRST
  underway[i] = true;
#endif
  atomic {
    if
    :: ended || frozen -> goto gone
    :: else -> lease[i] = pending
    fi
  }
  if
  :: crashes < CRASHES -> crashes++; goto gone
  :: skip
  fi;
#ifndef MINT_FIRST
  atomic {
    if
    :: late[i] -> refused = true        /* the deadline is absolute: a paused broker sends nothing */
    :: else -> underway[i] = true
    fi
  }
#endif
  do
  :: crashes < CRASHES -> crashes++; goto gone
  :: exists[i] && !refused -> answered = true; break
  :: !underway[i] -> break              /* it never arrived, or somebody has revoked it already */
  :: late[i] -> break                   /* the answer is lost, or comes after the deadline */
  od;
  if
  :: crashes < CRASHES -> crashes++; goto gone
  :: skip
  fi;
  if
  :: answered ->
     atomic {
       late[i] = true;                   /* the mint has arrived: whoever looks from now on sees it */
       underway[i] = false;
       if
       :: lease[i] == issued
       :: lease[i] == pending && !OVER_NOW -> activate(i)
       :: lease[i] == pending && OVER_NOW -> close(i); take(i)
       :: lease[i] == closing -> take(i)
       :: lease[i] == settled -> lease[i] = closing; take(i)
       fi
     }
  :: !answered ->
     atomic {
       if
       :: LIVE(i) -> close(i); take(i)
       :: lease[i] == closing && !claimed[i] -> take(i)
       :: else
       fi
     }
  fi;
  if
  :: took -> revoke(i)
  :: else
  fi;
gone: skip
}

/* The upstream carries out what it was sent, at any time before mint_until, or never. */
proctype Upstream(byte i) {
end: do
  :: atomic { underway[i] && !exists[i] && !late[i] -> exists[i] = true; underway[i] = false }
  :: atomic { underway[i] && !exists[i] -> underway[i] = false }
  od
}

proctype Clock(byte i) {
end: atomic { lease[i] != none -> late[i] = true; underway[i] = false }
}

/* The orchestrator: the end is acknowledged once the script has answered; its first page closes what it can. */
proctype End() {
  byte i;
  atomic {
    ended = true;
    for (i : 0 .. LEASES - 1) {
      if
      :: LIVE(i) -> close(i)
      :: LIVE(i)                        /* the budget of the step is used up: the rest stays due */
      :: else
      fi
    }
  }
  end_acknowledged = true
}

/* The operator, who may never come: a freeze holds before it is acknowledged, and then what it covers is closed. */
proctype Stop() {
  byte i;
  if
  :: goto stays_away
  :: skip
  fi;
  frozen = true;
  freeze_acknowledged = true;
  for (i : 0 .. LEASES - 1) {
    atomic {
      if
      :: LIVE(i) -> close(i)
      :: else
      fi
    }
  };
stays_away: skip
}

/* The sweeper of one replica: closes what is over, claims what is due, and hands it to revoke. When it dies another takes its place. */
proctype Sweeper() {
  byte i;
  byte mine = 0;
  byte result = 0;
  bool proof = false;
  bool took = false;
gone:
  skip;
  atomic { skip; mine = 0; result = 0; proof = false; took = false; i = 0 };
end: do
  :: atomic { LIVE(0) && (LEFT || (lease[0] == pending && late[0])) -> i = 0; close(i); take(i) }; revoke(i); goto gone
  :: atomic { lease[0] == closing && !claimed[0] -> i = 0; take(i) }; revoke(i); goto gone
#if LEASES > 1
  :: atomic { LIVE(1) && (LEFT || (lease[1] == pending && late[1])) -> i = 1; close(i); take(i) }; revoke(i); goto gone
  :: atomic { lease[1] == closing && !claimed[1] -> i = 1; take(i) }; revoke(i); goto gone
#endif
  od
}

/* The visibility of a claim passes, whether its holder is dead, paused or only slow. */
proctype Visibility(byte i) {
end: do
  :: atomic { lease[i] == closing && claimed[i] -> claimed[i] = false }
  od
}

/* 2: at any time, in whatever interleaving. */
#define INTENT (!exists[0] || RECORDED(0)) && (!exists[LEASES - 1] || RECORDED(LEASES - 1))
ltl intent { [] (INTENT) }
/* 1 and 3: after an end, in the end nothing is left: no record unsettled, nothing upstream. */
#define OVER(i) (lease[i] == none || lease[i] == settled)
ltl dies { [] (end_acknowledged -> <> (OVER(0) && OVER(LEASES - 1) && !exists[0] && !exists[LEASES - 1])) }

init {
  byte i;
  atomic {
    for (i : 0 .. LEASES - 1) {
      run Issue(i);
      run Upstream(i);
      run Clock(i);
      run Visibility(i)
    }
    run Sweeper();
    run End();
    run Stop()
  }
}
