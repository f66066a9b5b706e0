// The one exception type of the project, and SQLSTATE names.
#pragma once

#include <exception>
#include <optional>
#include <string>

struct ErrorData;

namespace partbackfill {

using Oid = unsigned int; // the server's own type, without its headers
inline constexpr Oid kNoOid = 0;

} // namespace partbackfill

namespace partbackfill::pg {

// An SQLSTATE packed as the server packs it (MAKE_SQLSTATE, utils/elog.h).
constexpr int sqlstate(const char (&code)[6]) {
    int packed = 0;
    for (int i = 0; i < 5; i++)
        packed |= ((code[i] - '0') & 0x3F) << (6 * i);
    return packed;
}

namespace sqlcode {
inline constexpr int kInternal = sqlstate("XX000");
inline constexpr int kOutOfMemory = sqlstate("53200");
inline constexpr int kProgramLimit = sqlstate("54000");
inline constexpr int kConfigurationLimit = sqlstate("53400");
inline constexpr int kFeatureNotSupported = sqlstate("0A000");
inline constexpr int kInvalidParameter = sqlstate("22023");
inline constexpr int kWrongObjectType = sqlstate("42809");
inline constexpr int kUndefinedObject = sqlstate("42704");
inline constexpr int kUndefinedTable = sqlstate("42P01");
inline constexpr int kUndefinedColumn = sqlstate("42703");
inline constexpr int kDuplicateColumn = sqlstate("42701");
inline constexpr int kDuplicateAlias = sqlstate("42712");
inline constexpr int kDatatypeMismatch = sqlstate("42804");
inline constexpr int kSyntaxError = sqlstate("42601");
inline constexpr int kInsufficientPrivilege = sqlstate("42501");
inline constexpr int kObjectInUse = sqlstate("55006");
inline constexpr int kDependentObjects = sqlstate("2BP01");
inline constexpr int kObjectNotInPrerequisiteState = sqlstate("55000");
inline constexpr int kUniqueViolation = sqlstate("23505");
inline constexpr int kForeignKeyViolation = sqlstate("23503");
inline constexpr int kCheckViolation = sqlstate("23514");
inline constexpr int kLockNotAvailable = sqlstate("55P03");
inline constexpr int kDeadlockDetected = sqlstate("40P01");
inline constexpr int kQueryCanceled = sqlstate("57014");
inline constexpr int kInvalidAuthorization = sqlstate("28000");
inline constexpr int kActiveTransaction = sqlstate("25001");
} // namespace sqlcode

// A whole server error: what an ereport carried, or what one shall carry. Text that is not
// there is empty.
struct ErrorFields {
    int code = sqlcode::kInternal;
    std::string message;
    std::string detail;
    std::string detail_log; // takes the detail's place in the server's log
    std::string hint;
    std::string context;

    // Names of what the error is about.
    std::string schema;
    std::string table;
    std::string column;
    std::string datatype;
    std::string constraint;

    // Characters, counted from 1; 0 is nowhere. `position` is one in the text that was being
    // parsed, which is never the client's statement, and is not reported: the parser's
    // caller makes it one in `internal_query`, which is.
    int position = 0;
    int internal_position = 0;
    std::string internal_query;

    // Place in the server's source; empty for an error of the extension's.
    std::string file;
    int line = 0;
    std::string function;
};

class Error : public std::exception {
public:
    explicit Error(ErrorFields fields) noexcept : fields_(std::move(fields)) {}
    const char *what() const noexcept override { return fields_.message.c_str(); }
    const ErrorFields &fields() const noexcept { return fields_; }
    int code() const noexcept { return fields_.code; }

private:
    ErrorFields fields_;
};

// Messages follow the server's style: message in lower case without a period,
// detail and hint whole sentences.
[[noreturn]] void raise(int code, std::string message, std::string detail = {}, std::string hint = {});

// The error as it is kept in tables: the message, and lines that begin with "Detail:",
// "Hint:" and "Context:".
std::string error_text(const ErrorFields &error);

// The five characters of a packed SQLSTATE.
std::string sqlstate_text(int code);

} // namespace partbackfill::pg
