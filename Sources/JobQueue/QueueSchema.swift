import SQLite

/// The queue file's schema. A migration is never edited once shipped, not even its white space or remarks: SQLite keeps the text, and it is compared.
enum QueueSchema {
  /// `NSQ1` in ASCII: `file(1)` and other programs can tell whose file this is.
  static let applicationID: Int32 = 0x4e53_5131

  static let migrations: [Migration] = [
    Migration(
      version: 1,
      sql: """
        CREATE TABLE job (
          number INTEGER PRIMARY KEY,
          id TEXT NOT NULL UNIQUE,
          run_path TEXT NOT NULL,
          equipment_id TEXT NOT NULL,
          relative_path BLOB NOT NULL,
          destination TEXT NOT NULL,
          remote_path TEXT NOT NULL,
          generation INTEGER NOT NULL CHECK (generation >= 1),
          priority INTEGER NOT NULL DEFAULT 0,
          state TEXT NOT NULL CHECK (state IN
            ('queued', 'running', 'awaiting_verify', 'verified', 'cleanup_eligible', 'cleaned', 'failed')),
          claimed_by TEXT,
          frozen INTEGER NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1)),
          attempts INTEGER NOT NULL DEFAULT 0,
          mismatches INTEGER NOT NULL DEFAULT 0,
          next_attempt_at REAL,
          error_kind TEXT,
          error_message TEXT,
          error_retry INTEGER,
          error_hint TEXT,
          files_total INTEGER NOT NULL DEFAULT 0,
          files_done INTEGER NOT NULL DEFAULT 0,
          bytes_total INTEGER NOT NULL DEFAULT 0,
          bytes_sent INTEGER NOT NULL DEFAULT 0,
          evidence TEXT,
          verify_passes INTEGER NOT NULL DEFAULT 0,
          verified_at REAL,
          manifest_digest BLOB,
          receipt_digest BLOB,
          created_at REAL NOT NULL,
          updated_at REAL NOT NULL,
          UNIQUE (run_path, generation),
          -- Who holds a job works on it: a claim that outlived its state would strand the job.
          CHECK (CASE state WHEN 'running' THEN claimed_by IS NOT NULL WHEN 'awaiting_verify' THEN 1 ELSE claimed_by IS NULL END)
        ) STRICT;
        CREATE UNIQUE INDEX job_one_active_a_run ON job (run_path) WHERE state IN ('queued', 'running', 'awaiting_verify');
        -- For claims: what waits, with all that a claim asks; what has no time set comes first and in the order in which it is taken, so
        -- that however many jobs wait for a later time, they are not read. The condition is an OR because the planner recognises one term
        -- of that, and claimed_by is a column of it because a condition alone does not spare the row.
        CREATE INDEX job_due ON job (state, claimed_by, equipment_id, next_attempt_at, priority DESC, number, destination)
          WHERE claimed_by IS NULL AND (state = 'queued' OR state = 'awaiting_verify');
        CREATE INDEX job_by_place ON job (destination, remote_path);
        CREATE INDEX job_by_state ON job (state, claimed_by, next_attempt_at);

        CREATE TABLE component (
          job INTEGER NOT NULL REFERENCES job (number),
          path BLOB NOT NULL,
          kind INTEGER NOT NULL CHECK (kind IN (0, 1, 2)),
          link_target BLOB,
          device INTEGER NOT NULL,
          inode INTEGER NOT NULL,
          size INTEGER NOT NULL,
          modified INTEGER NOT NULL,
          changed INTEGER NOT NULL,
          mode INTEGER NOT NULL,
          state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'adopted', 'verified')),
          bytes_durable INTEGER NOT NULL DEFAULT 0,
          local_digest BLOB,
          remote_digest BLOB,
          evidence TEXT,
          verified_at REAL,
          PRIMARY KEY (job, path)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE history (
          sequence INTEGER PRIMARY KEY AUTOINCREMENT,
          job INTEGER NOT NULL REFERENCES job (number),
          at REAL NOT NULL,
          event TEXT NOT NULL,
          from_state TEXT,
          to_state TEXT,
          detail TEXT NOT NULL
        ) STRICT;
        CREATE INDEX history_by_job ON history (job, sequence);
        CREATE TRIGGER history_is_append_only_u BEFORE UPDATE ON history BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
        CREATE TRIGGER history_is_append_only_d BEFORE DELETE ON history BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
        -- INSERT OR REPLACE deletes without asking the trigger above.
        CREATE TRIGGER history_is_append_only_i BEFORE INSERT ON history WHEN EXISTS (SELECT 1 FROM history WHERE sequence = NEW.sequence)
          BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;

        CREATE TABLE blocked_run (
          run_path TEXT PRIMARY KEY,
          equipment_id TEXT NOT NULL,
          since REAL NOT NULL,
          findings TEXT NOT NULL
        ) STRICT;

        CREATE TABLE outage (
          destination TEXT PRIMARY KEY,
          since REAL NOT NULL,
          next_attempt_at REAL NOT NULL,
          error_kind TEXT NOT NULL,
          error_message TEXT NOT NULL,
          error_hint TEXT NOT NULL
        ) STRICT;

        CREATE TABLE asset (
          number INTEGER PRIMARY KEY,
          id TEXT NOT NULL UNIQUE,
          type TEXT NOT NULL,
          created_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX asset_by_type ON asset (type, number);
        CREATE TABLE asset_component (
          asset INTEGER NOT NULL REFERENCES asset (number),
          name TEXT NOT NULL,
          local_path TEXT NOT NULL,
          size INTEGER,
          state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'uploading', 'completed', 'failed')),
          detail TEXT,
          created_at REAL NOT NULL,
          updated_at REAL NOT NULL,
          PRIMARY KEY (asset, name)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX asset_component_incomplete ON asset_component (asset, name) WHERE state <> 'completed';
        """),
    Migration(
      version: 2,
      sql: """
        -- When the job's NAS copy was last asked about, by its own verification or an audit, whatever the answer.
        ALTER TABLE job ADD COLUMN audited_at REAL;
        -- Whether a retry may put right what an audit found wrong on the NAS.
        ALTER TABLE job ADD COLUMN repairs INTEGER NOT NULL DEFAULT 0 CHECK (repairs IN (0, 1));
        -- Why the last removal of the local copy stopped, and when.
        ALTER TABLE job ADD COLUMN cleanup_note TEXT;
        ALTER TABLE job ADD COLUMN cleanup_noted_at REAL;
        -- Only the newest generation of a run is audited: it covers what the ones before it published.
        UPDATE job SET audited_at = verified_at
          WHERE generation = (SELECT max(generation) FROM job AS newest WHERE newest.run_path = job.run_path);
        -- A query repeats the condition word by word, else the planner does not use the index. By instrument and destination, so that
        -- what waits for a NAS that is out is never read on the way to what another one has due.
        CREATE INDEX job_by_audit ON job (equipment_id, destination, audited_at)
          WHERE state IN ('verified', 'cleanup_eligible', 'cleaned');
        -- What was proven when the component was published. A later attempt keeps it, however far it comes: it says what is the run's own.
        ALTER TABLE component ADD COLUMN published_digest BLOB;
        UPDATE component SET published_digest = remote_digest WHERE state = 'verified' AND kind = 0;

        -- How long audits took, for the limit of their time.
        CREATE TABLE audit_spell (
          sequence INTEGER PRIMARY KEY AUTOINCREMENT,
          ended REAL NOT NULL,
          seconds REAL NOT NULL
        ) STRICT;
        CREATE INDEX audit_spell_by_end ON audit_spell (ended);

        -- One row for each verification that found the NAS copy whole and counts, with what the clocks said.
        CREATE TABLE verification_pass (
          sequence INTEGER PRIMARY KEY AUTOINCREMENT,
          job INTEGER NOT NULL REFERENCES job (number),
          wall REAL NOT NULL,
          boot TEXT NOT NULL,
          uptime REAL NOT NULL,
          source TEXT NOT NULL CHECK (source IN ('publish', 'audit', 'cleanup')),
          evidence TEXT,
          files INTEGER NOT NULL,
          -- Entries of the record's list of overrides at that moment: a revocation after them came since.
          ledger_length INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX verification_pass_by_job ON verification_pass (job, sequence);
        -- Passes of jobs that were verified before passes were kept: their time on the wall is all there is, and no clock vouches for it.
        INSERT INTO verification_pass (job, wall, boot, uptime, source, evidence, files, ledger_length)
          SELECT number, verified_at, '', 0, 'publish', evidence, files_total, 0 FROM job WHERE verified_at IS NOT NULL;

        -- The last reading of each start of the machine.
        CREATE TABLE clock_sample (
          sequence INTEGER PRIMARY KEY AUTOINCREMENT,
          boot TEXT NOT NULL UNIQUE,
          uptime REAL NOT NULL,
          wall REAL NOT NULL
        ) STRICT;

        -- What an audit found wrong on the NAS and no later one found whole again.
        CREATE TABLE nas_fault (
          job INTEGER PRIMARY KEY REFERENCES job (number),
          since REAL NOT NULL,
          last_at REAL NOT NULL,
          detail TEXT NOT NULL
        ) STRICT;

        -- What a destination said of itself when it was probed, as JSON.
        CREATE TABLE destination_fact (
          destination TEXT PRIMARY KEY,
          at REAL NOT NULL,
          facts TEXT NOT NULL
        ) STRICT;
        """),
    Migration(
      version: 3,
      sql: """
        -- What the driver needs to go on with an interrupted upload of the component, such as an upload id and its parts.
        ALTER TABLE component ADD COLUMN upload_token TEXT;
        """),
    Migration(
      version: 4,
      sql: """
        -- One row for each asset that is brought to a service by presigned URLs; the URLs themselves are secrets and stand nowhere here.
        CREATE TABLE asset_upload (
          number INTEGER PRIMARY KEY,
          -- SHA-256 of what makes two calls mean one asset: service, key, type, names, paths.
          identity BLOB NOT NULL,
          service TEXT NOT NULL,
          type TEXT NOT NULL,
          -- Made and stored before the service hears of the asset, so that asking twice registers once.
          idempotency_key TEXT NOT NULL UNIQUE,
          -- The service's own; NULL until its answer was stored.
          asset_id TEXT,
          state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'ready', 'abandoned')),
          attempts INTEGER NOT NULL DEFAULT 0,
          next_attempt_at REAL,
          error_kind TEXT,
          error_message TEXT,
          error_retry INTEGER,
          error_hint TEXT,
          created_at REAL NOT NULL,
          updated_at REAL NOT NULL,
          CHECK (state <> 'ready' OR asset_id IS NOT NULL)
        ) STRICT;
        CREATE UNIQUE INDEX asset_upload_one_open ON asset_upload (identity) WHERE state = 'pending';
        CREATE INDEX asset_upload_by_identity ON asset_upload (identity, number);
        CREATE TABLE asset_upload_component (
          upload INTEGER NOT NULL REFERENCES asset_upload (number),
          name TEXT NOT NULL,
          local_path TEXT NOT NULL,
          content_type TEXT NOT NULL,
          device INTEGER NOT NULL,
          inode INTEGER NOT NULL,
          size INTEGER NOT NULL,
          modified INTEGER NOT NULL,
          changed INTEGER NOT NULL,
          mode INTEGER NOT NULL,
          state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'uploading', 'completed')),
          -- SHA-256 of the bytes: of the registration where the service signs digests, else of what was sent.
          digest BLOB,
          etag TEXT,
          evidence TEXT NOT NULL DEFAULT 'none' CHECK (evidence IN ('none', 'store')),
          updated_at REAL NOT NULL,
          PRIMARY KEY (upload, name),
          CHECK (state <> 'completed' OR digest IS NOT NULL)
        ) STRICT, WITHOUT ROWID;
        """),
    Migration(version: 5, sql: QueueSeals.migration),
    Migration(
      version: 6,
      sql: """
        -- For claims: what waits, by instrument, destination and priority, so that what goes to a destination that is out is passed over in one
        -- step, however many jobs that are. Within a priority what has no time set comes first. The condition is repeated word by word.
        DROP INDEX job_due;
        CREATE INDEX job_turn ON job (state, claimed_by, equipment_id, destination, priority DESC, next_attempt_at, number)
          WHERE claimed_by IS NULL AND (state = 'queued' OR state = 'awaiting_verify');
        -- Lists of what is in a state, in the order of arrival and a piece at a time.
        CREATE INDEX job_in_state ON job (state, number);
        -- What a service asks of all verified, and of all eligible jobs every minute, without reading their rows: the condition alone does not
        -- spare them, so the state is a column too.
        CREATE INDEX job_verified ON job (state, number, verify_passes) WHERE state = 'verified';
        CREATE INDEX job_eligible ON job (state, number, cleanup_noted_at) WHERE state = 'cleanup_eligible';
        -- What wants a person.
        CREATE INDEX job_in_trouble ON job (number, state) WHERE error_kind IS NOT NULL;
        CREATE INDEX job_kept ON job (number, state) WHERE cleanup_note IS NOT NULL;
        CREATE INDEX history_of_doubts ON history (job, sequence, event)
          WHERE event IN ('nas_mismatch_on_demand', 'local_mismatch_on_demand', 'audit_not_made');

        -- How many runs there are whose newest job is in a state: counting a million of them takes longer than anybody wants to wait.
        CREATE TABLE run_count (
          state TEXT PRIMARY KEY,
          runs INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        INSERT INTO run_count (state, runs)
          SELECT state, count(*) FROM job
          WHERE NOT EXISTS (SELECT 1 FROM job AS newer WHERE newer.run_path = job.run_path AND newer.generation > job.generation)
          GROUP BY state;
        CREATE TRIGGER run_is_counted_i AFTER INSERT ON job
          WHEN NOT EXISTS (SELECT 1 FROM job AS newer WHERE newer.run_path = NEW.run_path AND newer.generation > NEW.generation)
          BEGIN
            -- Of a run the newest job counts alone.
            UPDATE run_count SET runs = runs - 1 WHERE state =
              (SELECT state FROM job WHERE run_path = NEW.run_path AND generation < NEW.generation ORDER BY generation DESC LIMIT 1);
            INSERT INTO run_count (state, runs) VALUES (NEW.state, 1) ON CONFLICT (state) DO UPDATE SET runs = runs + 1;
          END;
        CREATE TRIGGER run_is_counted_u AFTER UPDATE OF state ON job
          WHEN OLD.state <> NEW.state
            AND NOT EXISTS (SELECT 1 FROM job AS newer WHERE newer.run_path = NEW.run_path AND newer.generation > NEW.generation)
          BEGIN
            UPDATE run_count SET runs = runs - 1 WHERE state = OLD.state;
            INSERT INTO run_count (state, runs) VALUES (NEW.state, 1) ON CONFLICT (state) DO UPDATE SET runs = runs + 1;
          END;
        """),
    // The same, said so that it costs nothing: for a list of three and more SQLite fills a table of its own each time the condition is looked at, for
    // each row of a run, which took half of the time of putting one into the queue.
    Migration(
      version: 7,
      rewordings: [
        Migration.Rewording(table: "component", former: "CHECK (kind IN (0, 1, 2))", new: "CHECK (kind BETWEEN 0 AND 2)"),
        Migration.Rewording(
          table: "component", former: "CHECK (state IN ('pending', 'sent', 'adopted', 'verified'))",
          new: "CHECK (state = 'pending' OR state = 'sent' OR state = 'adopted' OR state = 'verified')"),
      ]),
  ]
}
