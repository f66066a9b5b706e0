// The server's own headers, always first: postgres.h redefines names that the
// C++ library and fmt use, so it must have been read before either.
// Only .cpp files (and headers that say so) include this one.
#pragma once

extern "C" {
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/memutils.h"
}

// Headers of some minor releases call it, and servers before those do not have it: without it the library can
// be loaded and say so (pg/compatibility.hpp).
#if (PG_VERSION_NUM >= 150020 && PG_VERSION_NUM < 160000) ||                                                 \
    (PG_VERSION_NUM >= 160016 && PG_VERSION_NUM < 170000) ||                                                 \
    (PG_VERSION_NUM >= 170012 && PG_VERSION_NUM < 180000) ||                                                 \
    (PG_VERSION_NUM >= 180007 && PG_VERSION_NUM < 190000)
#pragma weak heap_datum_check
#endif

// libintl's macro would rewrite every later use of the name in C++ headers.
#undef gettext
#undef dgettext
#undef ngettext
#undef dngettext
