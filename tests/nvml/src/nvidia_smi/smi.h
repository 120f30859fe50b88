/* What the parts of the stand-in nvidia-smi share.
 *
 * Words and columns follow the transcripts in NVIDIA's MIG user guide and in public reports.
 */
#ifndef SMI_H
#define SMI_H

#include "../nvml_abi.h"

enum { MAX_CHOSEN = 64, ALL = -1 };

typedef struct {
    unsigned int index;
    nvmlDevice_t device;
    char bus_id[32];
} Gpu;

typedef struct {
    Gpu gpus[MAX_CHOSEN];
    int gpu_count;
    int gi, ci; /* ALL or an id */
} Chosen;

typedef nvmlGpuInstanceProfileInfo_v2_t GpuProfile;
typedef nvmlComputeInstanceProfileInfo_v2_t ComputeProfile;

typedef struct {
    nvmlGpuInstance_t handle;
    nvmlGpuInstanceInfo_t info;
    GpuProfile profile;
} GpuInstance;

typedef struct {
    nvmlComputeInstance_t handle;
    nvmlComputeInstanceInfo_t info;
    ComputeProfile profile;
} ComputeInstance;

/* look.c */
int exit_code(nvmlReturn_t code);
int complain(const char *what, nvmlReturn_t code);
int usage(const char *what);
nvmlReturn_t add_gpu(Chosen *chosen, nvmlDevice_t device);
int choose_all(Chosen *chosen);
int choose(Chosen *chosen, char *ids);
int mig_enabled(const Gpu *gpu);
int keep_mig(Chosen *chosen);
int gpu_profiles(const Gpu *gpu, GpuProfile *found);
int compute_profiles(nvmlGpuInstance_t instance, ComputeProfile *found);
int split_start(char *text);
int is_number(const char *text);
int named(const char *name, unsigned int id, const char *wanted);
nvmlReturn_t gpu_instances(const Gpu *gpu, int wanted, GpuInstance *found, int *count);
nvmlReturn_t compute_instances(const GpuInstance *gi, int wanted, ComputeInstance *found, int *count);

/* lists.c */
int list_gpu_instances(const Chosen *chosen);
int list_compute_instances(const Chosen *chosen);
int list_profiles(const Chosen *chosen);
int list_placements(const Chosen *chosen);

/* changes.c */
int create_gpu_instances(const Chosen *chosen, const char *list, int with_compute);
int create_compute_instances(const Chosen *chosen, const char *list);
int destroy_compute_instances(const Chosen *chosen);
int destroy_gpu_instances(const Chosen *chosen);

#endif
