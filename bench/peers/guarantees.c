#include "peers.h"
void guarantees_print(FILE *to)
{
    fputs("", to);
}
