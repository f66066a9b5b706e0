// The server's own headers, always first: postgres.h redefines names that the
// C++ library and fmt use, so it must have been read before either.
// Only .cpp files (and headers that say so) include this one.
#pragma once

extern "C" {
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/memutils.h"
}

// Headers of some minor releases call it, and servers before those do not have it: without it the library can
// be loaded and say so (pg/compatibility.hpp).
#pragma weak heap_datum_check

// libintl's macro would rewrite every later use of the name in C++ headers.
#undef gettext
#undef dgettext
#undef ngettext
#undef dngettext
