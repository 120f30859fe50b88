/* The machine that the stand-in pretends to be: one fixed struct in a shared file.
 *
 * tests/nvml/state.py mirrors it; standinLayout() lets it check that both sides agree. All numbers are 32 bit.
 */
#ifndef STATE_H
#define STATE_H

#include "nvml_abi.h"

#include <stddef.h>

#define MAGIC 0x4e564d32u
enum {
    MAX_MODELS = 48,
    MAX_GPUS = 64,
    MAX_PROFILES = 24,
    MAX_STARTS = 16,
    MAX_COMPUTE_PROFILES = 10,
    MAX_GPU_INSTANCES = 16,
    MAX_COMPUTE_INSTANCES = 8,
    MAX_PROCESSES = 128,
    MAX_FAULTS = 32,
    MAX_FUNCTIONS = 128,
    LOG_LENGTH = 4096,
    ENGINES = 4, /* decoders, encoders, jpeg, ofa */
    UNLIMITED = 0xffff,
    NONE = -1
};

typedef struct {
    int32_t nvml_profile, id, slices, extent, max_count, multiprocessors, start_count, starts[MAX_STARTS];
} ComputeProfile;

typedef struct {
    char name[64];
    int32_t nvml_profile, id, slices, extent, max_count, multiprocessors, copy_engines, memory_mib, capabilities, gfx;
    int32_t engines[ENGINES];
    int32_t start_count, starts[MAX_STARTS];
    int32_t compute_profile_count;
    ComputeProfile compute_profiles[MAX_COMPUTE_PROFILES];
} Profile;

typedef struct {
    char name[96];
    int32_t pci_device_id, architecture, memory_mib, units, max_instances, max_compute, max_gfx, mode_survives_reboot;
    int32_t engine_totals[ENGINES];
    int32_t profile_count; /* 0: no MIG */
    Profile profiles[MAX_PROFILES];
} Model;

typedef struct {
    int32_t used, generation, id, profile, start;
} ComputeInstance;

typedef struct {
    int32_t used, generation, id, profile, start;
    ComputeInstance compute[MAX_COMPUTE_INSTANCES];
} GpuInstance;

typedef struct {
    char uuid[80], serial[32];
    int32_t model, domain, bus, device, minor;
    int32_t mode, pending, activation; /* what a mode change reports that waits for a reset (16) or a reboot (3); 0: none */
    int32_t lost, persistence, ecc;
    GpuInstance instances[MAX_GPU_INSTANCES];
} Gpu;

typedef struct {
    int32_t used, pid, gpu, gi, ci, kind, memory_mib, only_while_alive; /* gi, ci: ids, NONE on a GPU without MIG */
    char name[96];
} Process;

enum { COMPUTE, GRAPHICS, MPS, MONITOR }; /* Process.kind; a monitor holds the device and is listed nowhere */

enum { RETURN_CODE, HANG, KILL_BEFORE, KILL_AFTER, DO_NOTHING, ACTIVATION, FAIL_AFTER }; /* Fault.action */

typedef struct {
    char function[64]; /* a function's name, "*", "change" (what changes the machine) or "mig" (all that is about MIG) */
    int32_t used, gpu, skip, times, action, value, hits; /* times 0: for ever; value: code, or milliseconds to hang */
} Fault;

typedef struct {
    int32_t sequence, pid, function, result, gpu, gi, ci, profile, start;
} Entry;

typedef struct {
    char name[64];
    int32_t calls, changes;
} Function;

typedef struct {
    uint32_t magic, size;
    char driver_version[80], nvml_version[80];
    int32_t cuda_version, without_mig, unprivileged, driver_loaded;
    int32_t model_count, gpu_count, generation, boots;
    int32_t function_count, read_count, change_count; /* entries ever written; the rings keep the last LOG_LENGTH */
    Function functions[MAX_FUNCTIONS];
    Fault faults[MAX_FAULTS];
    Process processes[MAX_PROCESSES];
    Gpu gpus[MAX_GPUS];
    Model models[MAX_MODELS];
    Entry reads[LOG_LENGTH];
    Entry changes[LOG_LENGTH];
} State;

/* A call of the library under way. */
enum { READS = 0, CHANGES = 1, MIG = 2, PRIVILEGED = 4 };

typedef struct {
    const char *name;
    int flags;
    int gpu, gi, ci, profile, start; /* ids for the log, NONE where they do not apply */
    int do_nothing, kill_after, fail_after, activation;
} Call;

/* state.c */
extern State *machine; /* NULL until nvmlInit; only to be used between enter() and leave() */
nvmlReturn_t enter(Call *call);
nvmlReturn_t leave(Call *call, nvmlReturn_t result);
nvmlReturn_t open_machine(void);
nvmlReturn_t close_machine(void);

/* handles.c: what the opaque handles stand for */
enum { DEVICE_HANDLE = 0x51, MIG_HANDLE = 0x52, GI_HANDLE = 0x53, CI_HANDLE = 0x54 };

typedef struct {
    int gpu_index, gi_slot, ci_slot;
    Gpu *gpu;
    Model *model;
    GpuInstance *gi;
    Profile *profile;
    ComputeInstance *ci;
    ComputeProfile *compute_profile;
} Object;

uint64_t handle_of(int kind, int gpu, int gi_slot, int ci_slot, int generation);
int gpu_of(const void *handle);
int kind_of(const void *handle);
nvmlReturn_t resolve(Call *call, const void *handle, int kind, Object *object);
nvmlReturn_t resolve_mig_gpu(Call *call, nvmlDevice_t device, Object *object); /* GPU with MIG, permission checked */

/* placement.c: NVIDIA's placement rules */
int allowed(const Model *model, const Gpu *gpu, int profile);              /* counts, engines */
int free_at(const Model *model, const Gpu *gpu, int profile, int start);   /* listed start, no overlap */
int is_start(const int32_t *starts, int count, int start);
int choose_start(const Model *model, const Gpu *gpu, int profile);         /* the driver's choice; NONE: no room */
int capacity(const Model *model, const Gpu *gpu, int profile);
int compute_free_at(const Profile *profile, const GpuInstance *gi, int compute_profile, int start);
int compute_allowed(const Profile *profile, const GpuInstance *gi, int compute_profile);
int choose_compute_start(const Profile *profile, const GpuInstance *gi, int compute_profile);
int compute_capacity(const Profile *profile, const GpuInstance *gi, int compute_profile);
int instance_id(const Model *model, const Gpu *gpu, int profile, int start);

/* names.c: texts, UUIDs and the order of MIG devices */
nvmlReturn_t hand_out(Call *call, int gpu, nvmlDevice_t *device);
void mig_uuid(const Gpu *gpu, const GpuInstance *gi, const ComputeInstance *ci, char *text, size_t length);
uint64_t mig_handle(int gpu, int gi_slot, int ci_slot);
int mig_device(const Gpu *gpu, int wanted, int *gi_slot, int *ci_slot);
nvmlReturn_t give(const char *text, char *buffer, unsigned int length);

/* processes.c */
int busy(int gpu, int gi, int ci); /* number of processes there; NONE is a wildcard; monitors count on whole GPUs */
int held(int gpu);
int alive(const Process *process);

int find_profile(const Model *model, int id);             /* by the driver's id */
int find_compute_profile(const Profile *profile, int id); /* by the driver's id */

/* What NVML does not offer and nvidia-smi does through the kernel driver. */
EXPORT nvmlReturn_t standinResetGpu(unsigned int index);
EXPORT const char *standinLayout(void);
EXPORT void standinForget(void);

#endif
