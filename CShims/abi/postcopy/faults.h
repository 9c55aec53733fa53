/* Missing pages served by the embedder, without a migration. */
#ifndef POSTCOPY_FAULTS_H
#define POSTCOPY_FAULTS_H

#include "memory.h"

#endif
