PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS pages (build TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS answers (
    session INTEGER NOT NULL, trial INTEGER NOT NULL, choice TEXT NOT NULL, seconds REAL NOT NULL,
    exposures TEXT NOT NULL, frame REAL, comment TEXT NOT NULL, received REAL NOT NULL, PRIMARY KEY (session, trial)
) STRICT;
CREATE TRIGGER IF NOT EXISTS kept BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'answers are only added'); END;
