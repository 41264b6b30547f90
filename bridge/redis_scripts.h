/* redis_scripts.h: the scripts that lie beside, as tools/embed.py embeds them. The lesson of each is at its head. */
#ifndef EVBUS_BRIDGE_REDIS_SCRIPTS_H
#define EVBUS_BRIDGE_REDIS_SCRIPTS_H

extern const char append_lua[]; /* NUL-terminated, as all of them */
extern const char marks_lua[];
extern const char report_lua[];
extern const char resume_lua[];
extern const char trim_lua[];

#endif
