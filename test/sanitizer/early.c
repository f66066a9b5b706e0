/* Begins the sanitizers as the server needs them: linked with "-z initfirst", preloaded before them. OPTIONS
 * and REPORTS are given by test/setup/sanitizer.sh. */
#include <dlfcn.h>
#include <stddef.h>

void __asan_init(void);
const char *__ubsan_default_options(void);

/* The one for addresses would begin with the first malloc. That is one by a constructor of libgpg-error's,
 * under a lock of gettext's for which that beginning waits. */
__attribute__((constructor)) static void begin(void) {
    __asan_init();
}

/* The one for undefined behaviour begins when it has something to report, by when the server has written its
 * title over the environment. Where to report is set by a function that both have; by the name alone both
 * find the same. */
const char *__ubsan_default_options(void) {
    void (*set_report_path)(const char *);
    void *ubsan = dlopen("libubsan.so.1", RTLD_LAZY | RTLD_NOLOAD);

    if (ubsan != NULL) {
        *(void **)&set_report_path = dlsym(ubsan, "__sanitizer_set_report_path");
        if (set_report_path != NULL)
            set_report_path(REPORTS);
    }
    return OPTIONS;
}
