/* The only C of this project: calls that Swift cannot import (macros of macros, _GNU_SOURCE
 * functions, liburing's inlines). Every function answers a number >= 0, or -errno. */
#ifndef POSTCOPY_CSHIMS_H
#define POSTCOPY_CSHIMS_H

#include "pc_checksum.h"
#include "pc_file.h"
#include "pc_kvm.h"
#include "pc_lost.h"
#include "pc_memory.h"
#include "pc_pagemap.h"
#include "pc_perf.h"
#include "pc_probe.h"
#include "pc_ring.h"
#include "pc_socket.h"
#include "pc_thread.h"
#include "pc_uffd.h"
#include "pc_wait.h"

#endif
