#include "partbackfill/pg/server.hpp"

extern "C" {
#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

#include "partbackfill/load/row_assignment.hpp"

namespace partbackfill::load {

namespace {

// The source's i-th column, converted as INSERT converts it. Sets `converts` when the types
// differ.
Expr *conversion(const RowAssignment *self, TupleDesc source, int i, bool *converts) {
    const Form_pg_attribute from = TupleDescAttr(source, i);
    const Form_pg_attribute to = TupleDescAttr(RelationGetDescr(self->table), self->targets[i] - 1);
    Var *value = makeVar(OUTER_VAR, static_cast<AttrNumber>(i + 1), from->atttypid, from->atttypmod,
                         from->attcollation, 0);
    Node *coerced =
        coerce_to_target_type(nullptr, reinterpret_cast<Node *>(value), from->atttypid, to->atttypid,
                              to->atttypmod, COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
    if (coerced == nullptr)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("column \"%s\" is of type %s but the source gives %s", NameStr(to->attname),
                               format_type_be(to->atttypid), format_type_be(from->atttypid))));
    if (coerced != reinterpret_cast<Node *>(value))
        *converts = true;
    return expression_planner(reinterpret_cast<Expr *>(coerced));
}

// Adds the row to an error that a cast or a generated column raises: the server
// shows the row for constraints only. Long values are cut.
void add_row_to_error(void *argument) {
    auto *self = static_cast<RowAssignment *>(argument);
    if (self->describing || self->describe == nullptr)
        return; // an error in an output function must not ask for the row again
    self->describing = true;
    StringInfoData names;
    StringInfoData values;
    initStringInfo(&names);
    initStringInfo(&values);
    for (int i = 0; i < self->count; i++) {
        const char *separator = i > 0 ? ", " : "";
        constexpr int kLongest = 64;
        appendStringInfo(&names, "%s%s", separator,
                         NameStr(TupleDescAttr(self->describe->tts_tupleDescriptor, i)->attname));
        if (self->describe->tts_isnull[i]) {
            appendStringInfo(&values, "%snull", separator);
            continue;
        }
        // The text of a very long value could not even be allocated: that would be the error.
        constexpr Size kTooLong = 1024 * 1024;
        const Datum datum = self->describe->tts_values[i];
        if (TupleDescAttr(self->describe->tts_tupleDescriptor, i)->attlen == -1 &&
            toast_raw_datum_size(datum) > kTooLong) {
            appendStringInfo(&values, "%s...", separator);
            continue;
        }
        char *value = OutputFunctionCall(&self->outputs[i], datum);
        const int length = static_cast<int>(strlen(value));
        const int shown = length > kLongest ? pg_mbcliplen(value, length, kLongest) : length;
        appendStringInfo(&values, "%s%.*s%s", separator, shown, value, shown < length ? "..." : "");
    }
    errcontext("source row (%s)=(%s)", names.data, values.data);
    self->describing = false;
}

FmgrInfo *output_functions(TupleDesc source) {
    auto *outputs = static_cast<FmgrInfo *>(palloc0(sizeof(FmgrInfo) * static_cast<Size>(source->natts + 1)));
    for (int i = 0; i < source->natts; i++) {
        Oid output = InvalidOid;
        bool varlena = false;
        getTypeOutputInfo(TupleDescAttr(source, i)->atttypid, &output, &varlena);
        fmgr_info(output, &outputs[i]);
    }
    return outputs;
}

TupleTableSlot *converted(RowAssignment *self, TupleTableSlot *source) {
    if (self->coercion == nullptr)
        return source;
    ExprContext *context = self->coercion->pi_exprContext;
    ResetExprContext(context);
    context->ecxt_outertuple = source;
    TupleTableSlot *projected = ExecProject(self->coercion);
    slot_getallattrs(projected);
    return projected;
}

} // namespace

void row_assignment_init(RowAssignment *self, Relation table, const AttrNumber *targets, int count) {
    memset(self, 0, sizeof(RowAssignment));
    self->table = table;
    self->estate = CreateExecutorState();
    self->result = makeNode(ResultRelInfo);
    InitResultRelInfo(self->result, table, 0, nullptr, 0);
    self->targets = static_cast<AttrNumber *>(palloc(sizeof(AttrNumber) * static_cast<Size>(count + 1)));
    memcpy(self->targets, targets, sizeof(AttrNumber) * static_cast<Size>(count));
    self->count = count;
    const TupleConstr *constraints = RelationGetDescr(table)->constr;
    self->has_generated = constraints != nullptr && constraints->has_generated_stored;
    self->has_constraints = constraints != nullptr;
}

void row_assignment_start(RowAssignment *self, TupleDesc source) {
    if (source->natts != self->count)
        elog(ERROR, "the source gives %d columns, not %d", source->natts, self->count);
    self->outputs = output_functions(source);
    bool converts = false;
    List *expressions = row_conversions(self, source, &converts);
    if (!converts)
        return;
    List *targets = NIL;
    for (int i = 0; i < source->natts; i++)
        targets = lappend(targets, makeTargetEntry(static_cast<Expr *>(list_nth(expressions, i)),
                                                   static_cast<AttrNumber>(i + 1), nullptr, false));
    TupleTableSlot *slot = MakeSingleTupleTableSlot(ExecTypeFromTL(targets), &TTSOpsVirtual);
    self->coercion =
        ExecBuildProjectionInfo(targets, CreateExprContext(self->estate), slot, nullptr, nullptr);
}

void row_assign(RowAssignment *self, TupleTableSlot *source, TupleTableSlot *row) {
    slot_getallattrs(source);
    ErrorContextCallback context{error_context_stack, add_row_to_error, self};
    error_context_stack = &context;
    self->describe = source;
    const TupleTableSlot *from = converted(self, source);
    const int width = RelationGetDescr(self->table)->natts;
    memset(row->tts_isnull, true, static_cast<Size>(width) * sizeof(bool));
    for (int i = 0; i < self->count; i++) {
        const int target = self->targets[i] - 1;
        row->tts_values[target] = from->tts_values[i];
        row->tts_isnull[target] = from->tts_isnull[i];
    }
    ExecStoreVirtualTuple(row);
    row->tts_tableOid = RelationGetRelid(self->table);

    const MemoryContext before = MemoryContextSwitchTo(GetPerTupleMemoryContext(self->estate));
    if (self->has_generated)
        ExecComputeStoredGenerated(self->result, self->estate, row, CMD_INSERT);
    self->describe = nullptr;
    error_context_stack = context.previous;
    if (self->has_constraints)
        ExecConstraints(self->result, row, self->estate);
    ExecMaterializeSlot(row);
    MemoryContextSwitchTo(before);
    ResetPerTupleExprContext(self->estate);
}

void row_assignment_end(RowAssignment *self) {
    if (self->coercion != nullptr)
        ExecDropSingleTupleTableSlot(self->coercion->pi_state.resultslot);
    FreeExecutorState(self->estate);
}

List *row_conversions(const RowAssignment *self, TupleDesc source, bool *converts) {
    List *expressions = NIL;
    for (int i = 0; i < source->natts; i++)
        expressions = lappend(expressions, conversion(self, source, i, converts));
    return expressions;
}

} // namespace partbackfill::load
