/* once_sqlite_ddl.h: share/once-sqlite.sql as text, see tools/embed.py. */
#ifndef EVBUS_ONCE_SQLITE_DDL_H
#define EVBUS_ONCE_SQLITE_DDL_H

extern const char once_sqlite_ddl[];

#endif
