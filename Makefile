# partbackfill: make, make install, make check, make stress, make demo, make bench
#
# The goals below need a throw-away installation and cluster. They install what
# is missing first, so they must work before the server's headers are there:
# PGXS is read only for the others.
harness_goals = check stress demo bench deps tidy

ifneq (,$(filter $(harness_goals),$(MAKECMDGOALS)))

.PHONY: $(harness_goals)
$(harness_goals):
	@test/setup/run.sh $@

else

PG_CONFIG ?= pg_config
override with_llvm := no

EXTENSION = partbackfill
DATA = sql/partbackfill--1.1.sql
MODULE_big = partbackfill
sources = $(wildcard src/*.cpp src/*/*.cpp)
OBJS = $(sources:.cpp=.o)
EXTRA_CLEAN = $(sources:.cpp=.d) build

PG_CPPFLAGS = -Iinclude -isystem $(shell $(PG_CONFIG) --includedir-server) -DFMT_HEADER_ONLY -MMD -MP
PG_CXXFLAGS = -std=c++20 -Wall -Wextra -Werror
SHLIB_LINK += -lstdc++

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Objects made for another server must not be linked with new ones: the dependencies leave system headers out, so
# they would not notice. The stamp is touched only when the server changes.
server_stamp = build/server
server_version := $(shell $(PG_CONFIG) --version) $(shell $(PG_CONFIG) --includedir-server)
ifneq ($(server_version),$(shell cat $(server_stamp) 2>/dev/null))
$(shell mkdir -p $(dir $(server_stamp)) && echo "$(server_version)" >$(server_stamp))
endif
$(OBJS): $(server_stamp)

-include $(sources:.cpp=.d)

endif
