/* doctor_journal.h: what is wrong with a bus's journal. See doctor_journal.c. */
#ifndef EVBUS_DOCTOR_JOURNAL_H
#define EVBUS_DOCTOR_JOURNAL_H

#include "finding.h"

void doctor_examine_journal(struct visit *visit);

#endif
