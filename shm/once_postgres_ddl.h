/* once_postgres_ddl.h: share/once-postgres.sql as text, see tools/embed.py. */
#ifndef EVBUS_ONCE_POSTGRES_DDL_H
#define EVBUS_ONCE_POSTGRES_DDL_H

extern const char once_postgres_ddl[];

#endif
