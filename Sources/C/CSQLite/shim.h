#ifndef NASSYNC_CSQLITE_SHIM_H
#define NASSYNC_CSQLITE_SHIM_H
#include <sqlite3.h>

/* sqlite3_db_config is variadic, which Swift cannot call. */
static inline int nassync_sqlite3_no_checkpoint_on_close(sqlite3 *db) {
  return sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)0);
}
static inline int nassync_sqlite3_defensive(sqlite3 *db, int on) {
  return sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, on, (int *)0);
}
static inline int nassync_sqlite3_is_defensive(sqlite3 *db, int *is) {
  return sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, -1, is);
}
/* SQLITE_TRANSIENT is a cast of -1 to a function pointer, which Swift does not import. */
static inline int nassync_sqlite3_bind_text(sqlite3_stmt *s, int i, const char *p, int n) {
  return sqlite3_bind_text(s, i, p, n, SQLITE_TRANSIENT);
}
static inline int nassync_sqlite3_bind_blob(sqlite3_stmt *s, int i, const void *p, int n) {
  return n == 0 ? sqlite3_bind_zeroblob(s, i, 0) : sqlite3_bind_blob(s, i, p, n, SQLITE_TRANSIENT);
}
#endif
