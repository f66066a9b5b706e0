# partbackfill: make, make install, make check, make demo, make bench
#
# The goals below need a throw-away installation and cluster. They install what
# is missing first, so they must work before the server's headers are there:
# PGXS is read only for the others.
harness_goals = check demo bench deps tidy

ifneq (,$(filter $(harness_goals),$(MAKECMDGOALS)))

.PHONY: $(harness_goals)
$(harness_goals):
	@test/setup/run.sh $@

else

PG_CONFIG ?= pg_config
override with_llvm := no

EXTENSION = partbackfill
DATA = sql/partbackfill--1.0.sql
MODULE_big = partbackfill
sources = $(wildcard src/*.cpp src/*/*.cpp)
OBJS = $(sources:.cpp=.o)
EXTRA_CLEAN = $(sources:.cpp=.d)

PG_CPPFLAGS = -Iinclude -isystem $(shell $(PG_CONFIG) --includedir-server) -DFMT_HEADER_ONLY -MMD -MP
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -Werror
SHLIB_LINK += -lstdc++

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

-include $(sources:.cpp=.d)

endif
